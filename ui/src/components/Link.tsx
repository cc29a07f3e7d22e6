import type { MouseEvent, ReactNode } from 'react';

import { href, navigate, type Patch } from '../app/router';

/** A link within the interface; opens elsewhere with the usual keys. */
export function Link({ to, params, className, title, children, current, onFollow }: { to: string; params?: Patch; className?: string; title?: string; children: ReactNode; current?: boolean; onFollow?: () => void }) {
  const target = href(to, params);
  const follow = (event: MouseEvent) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    navigate(href(to, params));
    onFollow?.();
  };
  return (
    <a href={target} className={className} title={title} onClick={follow} {...(current ? { 'aria-current': 'page' as const } : {})}>
      {children}
    </a>
  );
}
