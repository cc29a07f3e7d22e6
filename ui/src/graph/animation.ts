import type { Point } from './layout';
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

export interface Traffic {
  /** The camera or the scene has changed. */
  refresh(): void;
  stop(): void;
}

/** Moves dots along the edges in sight, more of them where there is more traffic; failures as crosses. */
export function startTraffic(renderer: Renderer, host: HTMLElement): Traffic {
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

  const rebuild = () => {
    stale = false;
    const { width, height } = host.getBoundingClientRect();
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    lanes = [];
    for (const edge of renderer.scene()?.edges ?? []) {
      if (lanes.length >= MAX_EDGES) break;
      const { metrics, dimmed } = edge.view;
      if (metrics.rate <= 0 || dimmed) continue;
      const points = edge.points.map((point) => renderer.toScreen(point));
      if (!points.some(({ x, y }) => x >= 0 && y >= 0 && x <= width && y <= height)) continue;
      const length = lengthOf(points);
      if (length < 12) continue;
      lanes.push({ points, length, dots: Math.min(MAX_DOTS_PER_EDGE, 1 + Math.floor(Math.log2(1 + metrics.rate))), failing: metrics.failureShare ?? 0 });
    }
  };

  const draw = (now: number) => {
    frame = requestAnimationFrame(draw);
    if (now - last < FRAME_MS || document.visibilityState === 'hidden') return;
    last = now;
    if (stale) rebuild();
    const colours = renderer.colours();
    const scale = renderer.scale();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const size = Math.max(1.6, Math.min(3.2, 2.6 * scale));
    for (const lane of lanes) {
      for (let i = 0; i < lane.dots; i++) {
        const run = (now / 1000) * SPEED * Math.max(0.4, scale) + (i * lane.length) / lane.dots;
        const at = along(lane.points, run % lane.length);
        // The share of dots that are crosses is the share of traffic that fails.
        const failing = (Math.floor(run / lane.length) * 7 + i * 3) % 10 < Math.ceil(lane.failing * 10);
        context.beginPath();
        if (failing) {
          context.strokeStyle = colours.failing;
          context.lineWidth = 2;
          context.moveTo(at.x - size - 1, at.y - size - 1);
          context.lineTo(at.x + size + 1, at.y + size + 1);
          context.moveTo(at.x + size + 1, at.y - size - 1);
          context.lineTo(at.x - size - 1, at.y + size + 1);
          context.stroke();
        } else {
          context.fillStyle = colours.accent;
          context.arc(at.x, at.y, size, 0, 7);
          context.fill();
        }
      }
    }
  };
  frame = requestAnimationFrame(draw);
  return {
    refresh: () => (stale = true),
    stop: () => {
      cancelAnimationFrame(frame);
      canvas.remove();
    },
  };
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
