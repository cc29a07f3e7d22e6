import { lazy, Suspense, useEffect, useState } from 'react';

import { useOutages } from '../api/outages';
import { shownNow } from '../api/queries';
import { Icon } from '../components/Icon';
import { Link } from '../components/Link';
import { Boundary } from '../components/Boundary';
import { HealthIcon } from '../components/HealthMark';
import { Loading } from '../components/State';
import { Time, useTimeStyle } from '../components/Time';
import { summaryOf } from '../domain/outages';
import { LiveBadge } from './LiveBadge';
import { NAV } from './nav';
import { base } from './base';
import { segments, useLocation } from './router';
import { routeOf } from './routes';
import { toggleTheme, useTheme } from './theme';
import { TimeControl } from './TimeControl';

const CommandPalette = lazy(() => import('./CommandPalette'));
const Scrubber = lazy(() => import('./Scrubber'));

export function Shell() {
  const { path } = useLocation();
  const [palette, setPalette] = useState(false);
  const [menu, setMenu] = useState(false);
  const parts = segments(path);
  const { title, page: Page, key } = routeOf(parts);

  useEffect(() => {
    document.title = `${title} · Nephilia`;
  }, [title]);
  useEffect(() => setMenu(false), [path]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const typing = event.target instanceof HTMLElement && event.target.matches('input, textarea, select');
      if ((event.key.toLowerCase() === 'k' && (event.metaKey || event.ctrlKey)) || (event.key === '/' && !typing)) {
        event.preventDefault();
        setPalette(true);
      }
    };
    document.addEventListener('keydown', onKey);
    return () => document.removeEventListener('keydown', onKey);
  }, []);

  return (
    <div className="shell">
      <a className="skip" href="#main">
        Skip to content
      </a>
      <nav className={`rail ${menu ? 'open' : ''}`} aria-label="Pages" id="rail">
        <Link to="/" className="brand">
          <img src={`${base}/favicon.svg`} width="26" height="26" alt="" />
          <span>Nephilia</span>
        </Link>
        <ul>
          {NAV.map((item, i) => (
            <li key={item.path} className={i > 0 && NAV[i - 1]!.group !== item.group ? 'first' : ''}>
              <Link to={item.path} title={item.label} current={item.path === '/' ? parts.length === 0 : parts[0] === item.path.slice(1)}>
                <Icon name={item.icon} />
                <span>{item.label}</span>
              </Link>
            </li>
          ))}
        </ul>
        <Preferences />
      </nav>
      <header className="topbar">
        <button type="button" className="button icon-only menu-button" aria-label="Menu" aria-expanded={menu} aria-controls="rail" onClick={() => setMenu(!menu)}>
          <Icon name="menu" />
        </button>
        <button type="button" className="search-button" onClick={() => setPalette(true)} aria-keyshortcuts="Control+K Meta+K">
          <Icon name="search" size={14} /> <span>Go to a workload, service or page</span> <kbd>⌘K</kbd>
        </button>
        <div className="topbar-right">
          <TimeControl />
          <LiveBadge />
        </div>
      </header>
      <OutageBanner path={path} />
      <main id="main" tabIndex={-1} className="main">
        <Boundary key={key}>
          <Suspense fallback={<Loading what="page" />}>
            <Page parts={parts} />
          </Suspense>
        </Boundary>
      </main>
      <Suspense fallback={<footer className="scrubber" />}>
        <Scrubber />
      </Suspense>
      {palette && (
        <Suspense fallback={null}>
          <CommandPalette close={() => setPalette(false)} />
        </Suspense>
      )}
    </div>
  );
}

function Preferences() {
  const theme = useTheme();
  const [times, toggleTimes] = useTimeStyle();
  return (
    <div className="preferences">
      <button type="button" onClick={toggleTheme} title={theme === 'dark' ? 'Light colours' : 'Dark colours'}>
        <Icon name={theme === 'dark' ? 'sun' : 'moon'} />
        <span>{theme === 'dark' ? 'Light' : 'Dark'}</span>
      </button>
      <button type="button" onClick={toggleTimes} title={times === 'relative' ? 'Show times by the clock' : 'Show times as how long ago'}>
        <Icon name="clock" />
        <span>{times === 'relative' ? 'Clock times' : 'Relative times'}</span>
      </button>
    </div>
  );
}

/** The open outages, on every page but those that are about them. */
function OutageBanner({ path }: { path: string }) {
  const { data } = useOutages();
  const open = (data?.outages ?? []).filter((outage) => outage.state === 'open');
  if (open.length === 0 || path === '/' || path.startsWith('/outages')) return null;
  const first = open[0]!;
  return (
    <div className={`banner ${first.severity}`} role="status">
      <HealthIcon health={first.severity === 'critical' ? 'failing' : 'degraded'} size={16} />
      <Link to={`/outages/${encodeURIComponent(first.id)}`} className="banner-text">
        {summaryOf(first, shownNow())}
      </Link>
      <span className="banner-time">
        began <Time at={first.started_at} />
      </span>
      {open.length > 1 && (
        <Link to="/outages" className="banner-more">
          {open.length - 1} more
        </Link>
      )}
    </div>
  );
}
