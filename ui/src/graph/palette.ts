/** The colours of the drawing, from the page's custom properties. */
export interface Palette {
  canvas: string;
  node: string;
  box: string;
  boxInner: string;
  border: string;
  text: string;
  muted: string;
  accent: string;
  healthy: string;
  degraded: string;
  failing: string;
  failingText: string;
  degradedText: string;
  idle: string;
  edge: string;
}

export function readPalette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    canvas: of('bg'), node: of('surface'), box: of('box'), boxInner: of('box-inner'), border: of('border-strong'), text: of('text'), muted: of('text-muted'),
    accent: of('accent'), healthy: of('healthy-line'), degraded: of('degraded-line'), failing: of('failing-line'), failingText: of('failing-text'),
    degradedText: of('degraded-text'), idle: of('idle-line'), edge: of('edge-line'),
  };
}

/** A tone's line colour; what is healthy stays grey, so that what is not stands out. */
export function edgeColour(palette: Palette, tone: string, byTone: boolean): string {
  switch (tone) {
    case 'failing': return palette.failing;
    case 'degraded': return palette.degraded;
    case 'idle': return palette.idle;
    case 'healthy': return byTone ? palette.healthy : palette.edge;
    default: return palette.edge;
  }
}
