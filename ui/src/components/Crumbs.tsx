import type { ReactNode } from 'react';

import { Icon } from './Icon';
import { Link } from './Link';

export function Crumbs({ list, path, name }: { list: string; path: string; name?: ReactNode }) {
  return (
    <nav className="breadcrumb" aria-label="Breadcrumb">
      <Link to={path}>{list}</Link>
      {name && (
        <>
          <Icon name="chevronRight" size={10} /> <span>{name}</span>
        </>
      )}
    </nav>
  );
}
