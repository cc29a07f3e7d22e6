import { useEffect, useRef, useState } from 'react';

import { dataNow } from '../api/live';
import { useRange } from '../api/queries';
import { Icon } from '../components/Icon';
import { DEFAULT_WINDOW, formatWindow, humanDuration, parseInstant, parseWindow, toRFC3339, WINDOWS } from '../domain/time';
import { patchQuery } from './router';

/** The time range of every page: a length that follows the live data, or ends at a chosen moment. */
export function TimeControl() {
  const range = useRange();
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  useDismiss(root, open, () => setOpen(false));
  const label = WINDOWS.find((window) => window.seconds === range.seconds)?.label ?? `Last ${humanDuration(range.seconds)}`;
  return (
    <div className="popover-root" ref={root}>
      <button type="button" className="button" aria-haspopup="dialog" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="clock" /> {range.at === undefined ? label : `${humanDuration(range.seconds)} before`} <Icon name="chevronDown" size={12} />
      </button>
      {open && (
        <div className="popover time-popover" role="dialog" aria-label="Time range">
          <div className="menu">
            {WINDOWS.map((window) => (
              <button
                key={window.seconds}
                type="button"
                className="menu-item"
                aria-pressed={range.seconds === window.seconds}
                onClick={() => {
                  patchQuery({ last: window.seconds === DEFAULT_WINDOW ? undefined : formatWindow(window.seconds) });
                  setOpen(false);
                }}
              >
                {window.label}
              </button>
            ))}
          </div>
          <CustomRange done={() => setOpen(false)} />
        </div>
      )}
    </div>
  );
}

function CustomRange({ done }: { done: () => void }) {
  const range = useRange();
  const end = range.at ?? dataNow();
  const [from, setFrom] = useState(localInput(end - range.seconds * 1000));
  const [to, setTo] = useState(localInput(end));
  const [length, setLength] = useState(formatWindow(range.seconds));
  const [fault, setFault] = useState('');
  return (
    <div className="custom-range">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const seconds = parseWindow(length.trim());
          if (seconds === undefined) return setFault('A length is a number and s, m, h or d, as 90s or 1h30m.');
          patchQuery({ last: formatWindow(seconds) });
          done();
        }}
      >
        <label>
          Length
          <input value={length} onChange={(event) => setLength(event.target.value)} spellCheck={false} />
        </label>
        <button type="submit" className="button small">
          Apply
        </button>
      </form>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const [a, b] = [parseInstant(from), parseInstant(to)];
          if (a === undefined || b === undefined || b <= a) return setFault('From has to be before to.');
          patchQuery({ last: formatWindow(Math.max(1, (b - a) / 1000)), at: toRFC3339(b) });
          done();
        }}
      >
        <label>
          From
          <input type="datetime-local" step="1" value={from} onChange={(event) => setFrom(event.target.value)} />
        </label>
        <label>
          To
          <input type="datetime-local" step="1" value={to} onChange={(event) => setTo(event.target.value)} />
        </label>
        <button type="submit" className="button small">
          Show this time
        </button>
      </form>
      {fault && (
        <p className="fault" role="alert">
          {fault}
        </p>
      )}
    </div>
  );
}

function localInput(ms: number): string {
  const date = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return date.toISOString().slice(0, 19);
}

/** Calls close on a click outside or Escape while open. */
export function useDismiss(root: React.RefObject<HTMLElement | null>, open: boolean, close: () => void): void {
  const latest = useRef(close);
  latest.current = close;
  useEffect(() => {
    if (!open) return;
    const onPointer = (event: PointerEvent) => {
      if (!root.current?.contains(event.target as Node)) latest.current();
    };
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      latest.current();
      root.current?.querySelector<HTMLElement>('[aria-expanded]')?.focus();
    };
    document.addEventListener('pointerdown', onPointer);
    document.addEventListener('keydown', onKey);
    return () => {
      document.removeEventListener('pointerdown', onPointer);
      document.removeEventListener('keydown', onKey);
    };
  }, [open, root]);
}
