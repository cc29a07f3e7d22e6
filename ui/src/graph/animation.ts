import type { EdgeSingular } from 'cytoscape';

import type { Point } from './layout';
import type { ViewEdge } from './model';
import type { Renderer } from './renderer';

/** How much moves at once, and how often it is drawn. */
const MAX_EDGES = 250;
const MAX_DOTS_PER_EDGE = 5;
const FRAME_MS = 33;
const SPEED = 70;

interface Lane {
  points: Point[];
  length: number;
  dots: number;
  failing: number;
}

/** Moves dots along the edges in sight, more of them where there is more traffic; failures as crosses. Returns what stops it. */
export function startTraffic(renderer: Renderer, host: HTMLElement, edges: () => ViewEdge[]): () => void {
  const { cy } = renderer;
  const canvas = document.createElement('canvas');
  canvas.className = 'traffic';
  canvas.setAttribute('aria-hidden', 'true');
  host.parentElement!.appendChild(canvas);
  const context = canvas.getContext('2d')!;
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  let lanes: Lane[] = [];
  let stale = true;
  let last = 0;
  let frame = 0;
  const markStale = () => (stale = true);
  cy.on('viewport position add remove', markStale);

  const rebuild = () => {
    stale = false;
    const { width, height } = host.getBoundingClientRect();
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    lanes = [];
    for (const edge of edges()) {
      if (lanes.length >= MAX_EDGES) break;
      if (edge.metrics.rate <= 0 || edge.dimmed) continue;
      const element = cy.getElementById(edge.id) as unknown as EdgeSingular;
      if (element.empty()) continue;
      const box = element.renderedBoundingBox({ includeLabels: false });
      if (box.x2 < 0 || box.y2 < 0 || box.x1 > width || box.y1 > height) continue;
      const points = pathOf(element);
      const length = lengthOf(points);
      if (length < 12) continue;
      const dots = Math.min(MAX_DOTS_PER_EDGE, 1 + Math.floor(Math.log2(1 + edge.metrics.rate)));
      lanes.push({ points, length, dots, failing: edge.metrics.failureShare ?? 0 });
    }
  };

  const draw = (now: number) => {
    frame = requestAnimationFrame(draw);
    if (now - last < FRAME_MS || document.visibilityState === 'hidden') return;
    last = now;
    if (stale) rebuild();
    const colours = renderer.colours();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const size = Math.max(1.6, Math.min(3.2, 2.6 * cy.zoom()));
    for (const lane of lanes) {
      for (let i = 0; i < lane.dots; i++) {
        const run = (now / 1000) * SPEED * Math.max(0.4, cy.zoom()) + (i * lane.length) / lane.dots;
        const at = along(lane.points, run % lane.length);
        // The share of dots that are crosses is the share of traffic that fails.
        const failing = (Math.floor(run / lane.length) * 7 + i * 3) % 10 < Math.ceil(lane.failing * 10);
        if (failing) {
          context.strokeStyle = colours.failing;
          context.lineWidth = 2;
          context.beginPath();
          context.moveTo(at.x - size - 1, at.y - size - 1);
          context.lineTo(at.x + size + 1, at.y + size + 1);
          context.moveTo(at.x + size + 1, at.y - size - 1);
          context.lineTo(at.x - size - 1, at.y + size + 1);
          context.stroke();
        } else {
          context.fillStyle = colours.accent;
          context.beginPath();
          context.arc(at.x, at.y, size, 0, 7);
          context.fill();
        }
      }
    }
  };
  frame = requestAnimationFrame(draw);
  return () => {
    cancelAnimationFrame(frame);
    cy.off('viewport position add remove', markStale as never);
    canvas.remove();
  };
}

/** The edge's line in screen coordinates: its ends and, between them, its curves in eight pieces each. */
export function pathOf(edge: EdgeSingular): Point[] {
  const from = edge.renderedSourceEndpoint();
  const to = edge.renderedTargetEndpoint();
  const controls = (edge.renderedControlPoints() as Point[] | undefined) ?? [];
  if (controls.length === 0) return [from, to];
  const points: Point[] = [from];
  let start: Point = from;
  controls.forEach((control, i) => {
    const next = controls[i + 1];
    const end = next ? { x: (control.x + next.x) / 2, y: (control.y + next.y) / 2 } : to;
    for (let t = 1; t <= 8; t++) {
      const f = t / 8;
      points.push({
        x: (1 - f) ** 2 * start.x + 2 * (1 - f) * f * control.x + f ** 2 * end.x,
        y: (1 - f) ** 2 * start.y + 2 * (1 - f) * f * control.y + f ** 2 * end.y,
      });
    }
    start = end;
  });
  return points;
}

function lengthOf(points: Point[]): number {
  let sum = 0;
  for (let i = 1; i < points.length; i++) sum += Math.hypot(points[i]!.x - points[i - 1]!.x, points[i]!.y - points[i - 1]!.y);
  return sum;
}

function along(points: Point[], distance: number): Point {
  let rest = distance;
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1]!, points[i]!];
    const piece = Math.hypot(b.x - a.x, b.y - a.y);
    if (rest <= piece && piece > 0) return { x: a.x + ((b.x - a.x) * rest) / piece, y: a.y + ((b.y - a.y) * rest) / piece };
    rest -= piece;
  }
  return points[points.length - 1]!;
}
