import type { Health } from '../api/types';
import { areaOf, letter, LINE_HEIGHT } from './lettering';
import { FONT } from './measure';
import { pointAt, type Rect } from './route';
import { PLATE, WAYPOINT_AT } from './paint';
import { edgeColour, type Palette } from './palette';
import type { Scene } from './scene';

const MARGIN = 24;

/** A scene as a standalone SVG in the colours of a palette. */
export function toSVG(scene: Scene, palette: Palette, byTone: boolean): string {
  const { left, top, right, bottom } = scene.bounds;
  const [x, y, width, height] = [left - MARGIN, top - MARGIN, right - left + 2 * MARGIN, bottom - top + 2 * MARGIN].map(round);
  const lettering = letter(scene, 1, undefined);
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${x} ${y} ${width} ${height}" width="${width}" height="${height}" font-family="${escape(FONT)}">`,
    `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${palette.canvas}"/>`,
  ];
  for (const box of scene.boxes) {
    const { view, rect } = box;
    const name = lettering.boxes.get(box)!;
    out.push(
      `<rect ${area(rect)} rx="12" fill="${view.kind === 'app' ? palette.boxInner : palette.box}" stroke="${healthLine(palette, view.health)}"/>`,
      ...name.lines.map((line) => text(line, name.at.x, name.at.y + name.size * 0.35, { size: name.size, weight: 600, fill: palette.muted })),
    );
  }
  const labels: string[] = [];
  for (const edge of scene.edges) {
    const colour = edgeColour(palette, edge.tone, byTone);
    const [a, b, c, d] = edge.curve;
    const path = edge.straight ? `M${point(a)}L${point(d)}` : `M${point(a)}C${point(b)} ${point(c)} ${point(d)}`;
    const dash = edge.tone === 'idle' ? ' stroke-dasharray="1.5 4"' : edge.view.metrics.mtls === false ? ' stroke-dasharray="7 4"' : '';
    const before = edge.straight ? a : c;
    const angle = round((Math.atan2(d.y - before.y, d.x - before.x) * 180) / Math.PI);
    const bar = edge.tone === 'degraded' ? '<path d="M-13-5v10"/>' : edge.tone === 'failing' ? '<path d="m-17-4.5 8 9m0-9-8 9"/>' : '';
    out.push(
      `<path d="${path}" fill="none" stroke="${colour}" stroke-width="${edge.width}"${dash}/>`,
      `<g transform="translate(${point(d)}) rotate(${angle})" fill="${colour}" stroke="${colour}" stroke-width="1.8"><path d="M0 0-8-4v8z" stroke="none"/>${bar}</g>`,
    );
    if (edge.view.metrics.waypoints.length > 0) out.push(`<path transform="translate(${point(pointAt(edge.curve, WAYPOINT_AT))})" d="M0-6 6 0 0 6-6 0z" fill="${palette.node}" stroke="${palette.accent}" stroke-width="1.6"/>`);
    const label = lettering.labels.get(edge);
    if (label) labels.push(`<rect ${area(areaOf(label))} rx="${round(label.size * 0.4)}" fill="${palette.canvas}" fill-opacity="${PLATE}"/>`);
    label?.lines.forEach((line, i) => {
      const fill = i === 0 && edge.tone === 'failing' ? palette.failingText : palette.text;
      labels.push(text(line, label.at.x, label.at.y + ((i - (label.lines.length - 1) / 2) * LINE_HEIGHT + 0.33) * label.size, { size: label.size, weight: edge.tone === 'failing' ? 650 : 450, fill, anchor: 'middle', halo: palette.canvas }));
    });
  }
  for (const node of scene.nodes) {
    const { view, rect } = node;
    const { name, mark: at } = lettering.nodes.get(node)!;
    const unwell = view.health === 'failing' || view.health === 'degraded';
    out.push(
      `<rect ${area(rect)} rx="8" fill="${view.inMesh ? palette.node : palette.canvas}" stroke="${healthLine(palette, view.health)}" stroke-width="${unwell ? 2.5 : 1.4}"${view.inMesh ? '' : ' stroke-dasharray="4 3"'}/>`,
      mark(view.health, at.x, at.y, palette),
      ...(name?.lines ?? []).map((line) => text(line, name!.at.x, name!.at.y + name!.size * 0.34, { size: name!.size, weight: unwell ? 650 : 500, fill: palette.text })),
    );
  }
  out.push(...labels, '</svg>');
  return out.join('\n');
}

function healthLine(palette: Palette, health: Health): string {
  return health === 'failing' ? palette.failing : health === 'degraded' ? palette.degraded : palette.border;
}

function text(content: string, x: number, y: number, style: { size: number; weight: number; fill: string; anchor?: string; halo?: string }): string {
  const halo = style.halo ? ` paint-order="stroke" stroke="${style.halo}" stroke-width="4" stroke-linejoin="round"` : '';
  return `<text x="${round(x)}" y="${round(y)}" font-size="${style.size}" font-weight="${style.weight}" fill="${style.fill}"${style.anchor ? ` text-anchor="${style.anchor}"` : ''}${halo}>${escape(content)}</text>`;
}

function mark(health: string, x: number, y: number, palette: Palette): string {
  const at = `transform="translate(${round(x)} ${round(y)})" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"`;
  switch (health) {
    case 'failing': return `<g ${at}><path d="M-3-7h6l4 4v6l-4 4h-6l-4-4v-6z" fill="#d02a35"/><path d="m-2.6-2.6 5.2 5.2m0-5.2-5.2 5.2" stroke="#fff"/></g>`;
    case 'degraded': return `<g ${at}><path d="M0-7 7 6H-7z" fill="#d98300"/><path d="M0-2.4v3.8M0 4h.01" stroke="#1d1400"/></g>`;
    case 'healthy': return `<g ${at}><circle r="7" fill="#1f8a5b"/><path d="m-3.2.2 2.3 2.3 4.2-4.6" fill="none" stroke="#fff"/></g>`;
    case 'idle': return `<g ${at}><circle r="6.2" fill="none" stroke="${palette.idle}"/><path d="M-2.8 0h5.6" stroke="${palette.idle}"/></g>`;
    default: return `<g ${at}><circle r="6.2" fill="none" stroke="${palette.idle}" stroke-dasharray="2.4 1.8"/></g>`;
  }
}

function area({ left, top, right, bottom }: Rect): string {
  return `x="${round(left)}" y="${round(top)}" width="${round(right - left)}" height="${round(bottom - top)}"`;
}

function point({ x, y }: { x: number; y: number }): string {
  return `${round(x)} ${round(y)}`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escape(content: string): string {
  return content.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
