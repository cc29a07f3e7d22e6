import type { ReactNode } from 'react';

import { Icon } from './Icon';

/** A panel beside what it tells of. */
export function SideFrame({ label, title, sub, close, children }: { label: string; title: ReactNode; sub?: ReactNode; close: () => void; children: ReactNode }) {
  return (
    <aside className="side-panel" aria-label={label}>
      <header>
        <div className="side-title">
          <h2>{title}</h2>
          {sub && <div className="muted">{sub}</div>}
        </div>
        <button type="button" className="button small icon-only plain" aria-label="Close details" onClick={close}>
          <Icon name="close" size={14} />
        </button>
      </header>
      <div className="side-body">{children}</div>
    </aside>
  );
}
