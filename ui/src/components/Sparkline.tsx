/** A line without axes, for a table's cell. */
export function Sparkline({ values, tone = 'series-1', width = 96, height = 22, label }: { values: (number | null)[]; tone?: string; width?: number; height?: number; label: string }) {
  const max = Math.max(...values.map((value) => value ?? 0), 0);
  if (values.length < 2 || max === 0) {
    return (
      <svg width={width} height={height} role="img" aria-label={`${label}: nothing`}>
        <line x1="0" x2={width} y1={height - 2} y2={height - 2} style={{ stroke: 'var(--border-strong)' }} strokeDasharray="2 3" />
      </svg>
    );
  }
  let path = '';
  let pen = false;
  values.forEach((value, i) => {
    if (value === null) {
      pen = false;
      return;
    }
    path += `${pen ? 'L' : 'M'}${((i / (values.length - 1)) * width).toFixed(1)} ${(height - 2 - (value / max) * (height - 4)).toFixed(1)}`;
    pen = true;
  });
  return (
    <svg width={width} height={height} role="img" aria-label={label}>
      <path d={path} fill="none" style={{ stroke: `var(--${tone})` }} strokeWidth="1.5" strokeLinejoin="round" />
    </svg>
  );
}
