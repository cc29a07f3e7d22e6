import type { EdgeSingular, NodeSingular } from 'cytoscape';

import type { Point } from './layout';
import type { View } from './model';
import type { Renderer } from './renderer';
import { NODE_HEIGHT } from './style';

/** The whole graph as a standalone SVG in the colours of the current theme. */
export function toSVG(renderer: Renderer, view: View): string {
  const { cy } = renderer;
  const colours = renderer.colours();
  const bounds = cy.elements().boundingBox({});
  const margin = 24;
  const [x, y] = [bounds.x1 - margin, bounds.y1 - margin];
  const [width, height] = [bounds.w + 2 * margin, bounds.h + 2 * margin];
  const out: string[] = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${x} ${y} ${width} ${height}" width="${round(width)}" height="${round(height)}" font-family="Inter, system-ui, sans-serif">`,
    `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${colours.canvas}"/>`,
    ...['healthy', 'degraded', 'failing', 'idle', 'edge'].map(
      (tone) => `<marker id="arrow-${tone}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 10 5 0 10z" fill="${colours[tone as 'edge']}"/></marker>`,
    ),
  ];
  for (const box of view.boxes) {
    const element = cy.getElementById(box.id) as unknown as NodeSingular;
    if (element.empty()) continue;
    const b = element.boundingBox({ includeLabels: false });
    out.push(
      `<rect x="${round(b.x1)}" y="${round(b.y1)}" width="${round(b.w)}" height="${round(b.h)}" rx="12" fill="${colours.box}" stroke="${box.health === 'failing' ? colours.failing : box.health === 'degraded' ? colours.degraded : colours.border}"/>`,
      `<text x="${round(b.x1 + 14)}" y="${round(b.y1 + 19)}" font-size="11.5" font-weight="600" fill="${colours.muted}">${escape(box.label)}</text>`,
    );
  }
  const labels: string[] = [];
  for (const edge of view.edges) {
    const element = cy.getElementById(edge.id) as unknown as EdgeSingular;
    if (element.empty()) continue;
    const { health } = edge.metrics;
    const tone = health === 'failing' || health === 'degraded' || health === 'idle' ? health : 'edge';
    const dash = health === 'idle' ? ' stroke-dasharray="1.5 4"' : edge.metrics.mtls === false ? ' stroke-dasharray="7 4"' : '';
    out.push(`<path d="${path(element)}" fill="none" stroke="${colours[tone]}" stroke-width="${element.data('width')}"${dash} marker-end="url(#arrow-${tone})"/>`);
    const label = element.data('label') as string;
    if (!label) continue;
    const at = element.midpoint();
    const lines = label.split('\n');
    const spans = lines.map((line, i) => `<tspan x="${round(at.x)}" dy="${i === 0 ? 0 : 12}">${escape(line)}</tspan>`).join('');
    labels.push(
      `<text y="${round(at.y + 3.5 - (lines.length - 1) * 6)}" font-size="10.5" text-anchor="middle" paint-order="stroke" stroke="${colours.canvas}" stroke-width="4" stroke-linejoin="round" fill="${tone === 'failing' ? colours.failing : colours.text}">${spans}</text>`,
    );
  }
  for (const node of view.nodes) {
    const element = cy.getElementById(node.id) as unknown as NodeSingular;
    if (element.empty()) continue;
    const { x: cx, y: cy_ } = element.position();
    const w = element.data('w') as number;
    const border = node.health === 'failing' ? colours.failing : node.health === 'degraded' ? colours.degraded : colours.border;
    const dash = node.inMesh ? '' : ' stroke-dasharray="4 3"';
    out.push(
      `<rect x="${round(cx - w / 2)}" y="${cy_ - NODE_HEIGHT / 2}" width="${w}" height="${NODE_HEIGHT}" rx="8" fill="${colours.node}" stroke="${border}" stroke-width="${node.health === 'failing' || node.health === 'degraded' ? 2.5 : 1.5}"${dash}/>`,
      mark(node.health, cx - w / 2 + 17, cy_, colours),
      `<text x="${round(cx + 10)}" y="${round(cy_ + 4)}" font-size="12" font-weight="500" text-anchor="middle" fill="${colours.text}">${escape(element.data('label') as string)}</text>`,
    );
  }
  out.push(...labels, '</svg>');
  return out.join('\n');
}

function mark(health: string, x: number, y: number, colours: { healthy: string; degraded: string; failing: string; idle: string }): string {
  const at = `transform="translate(${round(x)} ${round(y)})"`;
  switch (health) {
    case 'failing': return `<g ${at}><path d="M-3-7h6l4 4v6l-4 4h-6l-4-4v-6z" fill="${colours.failing}"/><path d="m-2.6-2.6 5.2 5.2m0-5.2-5.2 5.2" stroke="#fff" stroke-width="1.8"/></g>`;
    case 'degraded': return `<g ${at}><path d="M0-7 7 6H-7z" fill="${colours.degraded}"/><path d="M0-2.5v4.5" stroke="#1d1400" stroke-width="1.8"/></g>`;
    case 'healthy': return `<g ${at}><circle r="7" fill="${colours.healthy}"/><path d="m-3.2.2 2.3 2.3 4.2-4.6" fill="none" stroke="#fff" stroke-width="1.8"/></g>`;
    default: return `<g ${at}><circle r="6" fill="none" stroke="${colours.idle}" stroke-width="1.6"/></g>`;
  }
}

function path(edge: EdgeSingular): string {
  const from = edge.sourceEndpoint();
  const to = edge.targetEndpoint();
  const controls = (edge.controlPoints() as Point[] | undefined) ?? [];
  let d = `M${round(from.x)} ${round(from.y)}`;
  if (controls.length === 0) return `${d}L${round(to.x)} ${round(to.y)}`;
  controls.forEach((control, i) => {
    const next = controls[i + 1];
    const end = next ? { x: (control.x + next.x) / 2, y: (control.y + next.y) / 2 } : to;
    d += `Q${round(control.x)} ${round(control.y)} ${round(end.x)} ${round(end.y)}`;
  });
  return d;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
