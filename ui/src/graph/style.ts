import type { StylesheetJson } from 'cytoscape';

import degraded from './icons/degraded.svg';
import failing from './icons/failing.svg';
import healthy from './icons/healthy.svg';
import idle from './icons/idle.svg';
import unknown from './icons/unknown.svg';

export const HEALTH_ICONS = { failing, degraded, healthy, idle, unknown };

export const FONT = 'Inter Variable, system-ui, sans-serif';
export const NODE_FONT_SIZE = 12;
export const NODE_HEIGHT = 34;

/** The colours that the canvas takes from the page's custom properties. */
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
  idle: string;
  unknown: string;
  edge: string;
}

export function readPalette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    canvas: of('bg'), node: of('surface'), box: of('box'), boxInner: of('box-inner'), border: of('border-strong'), text: of('text'), muted: of('text-muted'),
    accent: of('accent'), healthy: of('healthy-line'), degraded: of('degraded-line'), failing: of('failing-line'), idle: of('idle-line'),
    unknown: of('idle-line'), edge: of('edge-line'),
  };
}

export function stylesheet(p: Palette): StylesheetJson {
  const toned = (selector: string, tone: keyof typeof HEALTH_ICONS) => ({
    selector: `${selector}.${tone}`,
    style: { 'border-color': p[tone], 'background-image': HEALTH_ICONS[tone] },
  });
  const sheet = [
    {
      selector: 'node',
      style: {
        shape: 'round-rectangle',
        'corner-radius': '8px',
        height: NODE_HEIGHT,
        'background-color': p.node,
        'border-width': 1.5,
        'border-color': p.border,
        label: 'data(label)',
        color: p.text,
        'font-family': FONT,
        'font-size': NODE_FONT_SIZE,
        'font-weight': 500,
        'text-valign': 'center',
        'text-halign': 'center',
        'text-margin-x': 10,
        'min-zoomed-font-size': 5,
        'background-width': 15,
        'background-height': 15,
        'background-position-x': 9,
        'background-position-y': '50%',
        'background-clip': 'node',
        'transition-duration': 0,
      },
    },
    { selector: 'node[w]', style: { width: 'data(w)' } },
    { selector: 'node.healthy', style: { 'background-image': HEALTH_ICONS.healthy } }, toned('node', 'degraded'), toned('node', 'failing'), toned('node', 'idle'), toned('node', 'unknown'),
    { selector: 'node.degraded, node.failing', style: { 'border-width': 2.5, 'font-weight': 700 } },
    { selector: 'node.service', style: { shape: 'round-hexagon' } },
    { selector: 'node.outside', style: { 'border-style': 'dashed', 'background-color': p.canvas } },
    { selector: 'node.folded', style: { 'border-style': 'double', 'border-width': 5 } },
    { selector: 'node.outage', style: { 'underlay-color': p.failing, 'underlay-opacity': 0.22, 'underlay-padding': 9, 'underlay-shape': 'round-rectangle' } },
    {
      selector: 'node.box',
      style: {
        shape: 'round-rectangle',
        'corner-radius': '12px',
        'background-color': p.box,
        'background-image': 'none',
        'border-width': 1,
        'border-color': p.border,
        'border-style': 'solid',
        padding: '28px',
        label: 'data(label)',
        color: p.muted,
        'font-size': 11.5,
        'font-weight': 600,
        'text-valign': 'top',
        'text-halign': 'left',
        'text-margin-x': 'data(mx)',
        'text-margin-y': 20,
      },
    },
    { selector: 'node.box.failing', style: { 'border-color': p.failing } },
    { selector: 'node.box.degraded', style: { 'border-color': p.degraded } },
    { selector: 'node.box.app', style: { 'background-color': p.boxInner } },
    {
      selector: 'edge',
      style: {
        width: 'data(width)',
        'line-color': p.edge,
        'target-arrow-color': p.edge,
        'target-arrow-shape': 'triangle',
        'arrow-scale': 0.85,
        'curve-style': 'unbundled-bezier',
        'control-point-distances': 'data(cpd)',
        'control-point-weights': 'data(cpw)',
        'edge-distances': 'node-position',
        label: 'data(label)',
        'text-wrap': 'wrap',
        'line-height': 1.15,
        color: p.text,
        'font-family': FONT,
        'font-size': 10.5,
        'text-background-color': p.canvas,
        'text-background-opacity': 0.88,
        'text-background-padding': '2px',
        'text-background-shape': 'roundrectangle',
        'min-zoomed-font-size': 7,
      },
    },
    { selector: 'edge.straight', style: { 'curve-style': 'straight' } },
    { selector: 'edge.loop', style: { 'curve-style': 'bezier', 'loop-direction': '-45deg', 'loop-sweep': '60deg', 'control-point-step-size': 34 } },
    { selector: 'edge.plaintext', style: { 'line-style': 'dashed', 'line-dash-pattern': [7, 4] } },
    { selector: 'edge.idle', style: { 'line-style': 'dotted', 'line-color': p.idle, 'target-arrow-color': p.idle, 'line-opacity': 0.7 } },
    { selector: 'edge.unknown', style: { 'line-color': p.unknown, 'target-arrow-color': p.unknown } },
    { selector: 'edge.by-tone.healthy', style: { 'line-color': p.healthy, 'target-arrow-color': p.healthy } },
    {
      selector: 'edge.degraded',
      style: { 'line-color': p.degraded, 'target-arrow-color': p.degraded, 'target-arrow-shape': 'triangle-tee', 'z-index': 5 },
    },
    {
      selector: 'edge.failing',
      style: { 'line-color': p.failing, 'target-arrow-color': p.failing, 'target-arrow-shape': 'triangle-cross', color: p.failing, 'font-weight': 700, 'z-index': 6 },
    },
    { selector: '.dimmed', style: { opacity: 0.22 } },
    { selector: 'node.hot', style: { 'border-color': p.accent } },
    { selector: 'edge.hot', style: { 'line-color': p.accent, 'target-arrow-color': p.accent, 'z-index': 8, opacity: 1 } },
    { selector: 'node.chosen', style: { 'outline-color': p.accent, 'outline-width': 2.5, 'outline-offset': 2.5, 'outline-opacity': 1 } },
    { selector: 'edge.chosen', style: { 'line-outline-width': 2.5, 'line-outline-color': p.accent, 'z-index': 9 } },
    { selector: 'node.appeared, edge.appeared', style: { 'underlay-color': p.accent, 'underlay-opacity': 0.25, 'underlay-padding': 6 } },
    { selector: 'node:active, edge:active', style: { 'overlay-opacity': 0 } },
    { selector: 'core', style: { 'active-bg-opacity': 0 } },
  ];
  // The library's types lag behind its properties (line-outline, corner-radius).
  return sheet as unknown as StylesheetJson;
}
