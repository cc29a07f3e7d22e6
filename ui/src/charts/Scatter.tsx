import { useEffect, useRef, useState } from 'react';

import { shownNow } from '../api/queries';
import { tickClock, ticksBetween } from '../domain/time';

export interface Dot {
  id: string;
  time: number;
  value: number;
  size: number;
  failed: boolean;
  label: string;
}

const [HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [170, 62, 22, 10, 14];

/** Values over time, one mark each: circles, and crosses for what failed. The value's axis is logarithmic when it spans decades. */
export function Scatter({ points, format, onOpen }: { points: Dot[]; format: (value: number) => string; onOpen: (id: string) => void }) {
  const host = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(800);
  const [hover, setHover] = useState<Dot>();
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => entry && setWidth(entry.contentRect.width));
    observer.observe(host.current!);
    return () => observer.disconnect();
  }, []);
  const times = points.map((point) => point.time);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const [low, high] = [Math.max(0.01, Math.min(...points.map((point) => point.value))), Math.max(0.1, ...points.map((point) => point.value)) * 1.08];
  const log = high / low > 50;
  const x = (time: number) => LEFT + ((time - first) / Math.max(1, last - first)) * (width - LEFT - RIGHT);
  const y = (value: number) => {
    const share = log ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : value / high;
    return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);
  };
  const ticks = [0, 0.5, 1].map((share) => (log ? low * (high / low) ** share : high * share));
  const now = shownNow();
  return (
    <div ref={host} className="scatter">
      <svg width={width} height={HEIGHT} role="img" aria-label={`${points.length} durations, from ${format(low)} to ${format(high / 1.08)}`}>
        {ticks.map((tick) => (
          <g key={tick}>
            <line x1={LEFT} x2={width - RIGHT} y1={y(tick)} y2={y(tick)} className="scatter-grid" />
            <text x={LEFT - 8} y={y(tick) + 4} textAnchor="end" className="scatter-text">
              {format(tick)}
            </text>
          </g>
        ))}
        {ticksBetween(first, last, Math.max(2, Math.floor(width / 140))).map((tick) => (
          <text key={tick} x={x(tick)} y={HEIGHT - 5} textAnchor="middle" className="scatter-text">
            {tickClock(tick, now)}
          </text>
        ))}
        {points.map((point) => {
          const [px, py, r] = [x(point.time), y(point.value), Math.min(9, 2.5 + Math.sqrt(point.size))];
          const on = { onPointerEnter: () => setHover(point), onPointerLeave: () => setHover(undefined), onClick: () => onOpen(point.id) };
          return point.failed ? (
            <g key={point.id} className="scatter-failed" transform={`translate(${px} ${py})`} {...on}>
              <circle r={r + 2} fill="transparent" stroke="none" />
              <path d={`M${-r * 0.7} ${-r * 0.7}L${r * 0.7} ${r * 0.7}M${r * 0.7} ${-r * 0.7}L${-r * 0.7} ${r * 0.7}`} />
            </g>
          ) : (
            <circle key={point.id} cx={px} cy={py} r={r} className="scatter-dot" {...on} />
          );
        })}
      </svg>
      {hover && (
        <div className="heat-tip" style={{ left: Math.min(x(hover.time) + 12, width - 260), top: Math.max(0, y(hover.value) - 32) }}>
          {hover.label} <b>{format(hover.value)}</b>
        </div>
      )}
    </div>
  );
}
