import type { Point, Positions } from './layout';
import { letter, type Lettering } from './lettering';
import type { View } from './model';
import { paint, type Camera } from './paint';
import { readPalette, type Palette } from './palette';
import { buildScene, hit, type DrawOptions, type Scene } from './scene';

export type { DrawOptions } from './scene';

export interface Covered {
  left: number;
  bottom: number;
}

export interface RendererEvents {
  choose(id: string | undefined): void;
  open(id: string): void;
  hover(id: string | undefined, at: Point): void;
  moved(positions: Positions): void;
  /** The camera or the scene has changed. */
  shown(): void;
}

const [MIN_SCALE, MAX_SCALE] = [0.04, 3];
/** What a fit leaves free. A handful of nodes is not blown up to fill a wall. */
const MARGIN = 18;
const LARGEST_FIT = 1;
/** Below this many pixels a press that moves is still a click. */
const DRAG_FROM = 4;
const REACH = 7;
/** A picture that takes longer than this to draw moves as a bitmap, and is drawn anew once it rests. */
const SLOW_MS = 14;
const REST_MS = 130;

/** Draws a view on a canvas, and turns pointers into camera moves, choices and drags. */
export class Renderer {
  private readonly canvas: HTMLCanvasElement;
  private readonly context: CanvasRenderingContext2D;
  private palette: Palette;
  private view: View | undefined;
  private positions: Positions = {};
  private options: DrawOptions | undefined;
  private sceneNow: Scene | undefined;
  private lettering: Lettering | undefined;
  private camera: Camera = { x: 0, y: 0, scale: 1 };
  private size = { width: 0, height: 0 };
  private hot: string | undefined;
  private fitted = false;
  /** A person has moved or zoomed the picture since the last fit. */
  private steered = false;
  private frame = 0;
  private slow = false;
  private still: { bitmap: HTMLCanvasElement; camera: Camera } | undefined;
  private rest: ReturnType<typeof setTimeout> | undefined;
  private glide = 0;
  private readonly observer: ResizeObserver;
  private readonly off = new AbortController();

  constructor(
    private readonly host: HTMLElement,
    private readonly events: RendererEvents,
    /** How much of the host's left and bottom something lies over. */
    private readonly covered: Covered,
  ) {
    this.palette = readPalette();
    this.canvas = document.createElement('canvas');
    this.canvas.setAttribute('aria-hidden', 'true');
    host.appendChild(this.canvas);
    this.context = this.canvas.getContext('2d', { alpha: false })!;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(host);
    this.resize();
    this.listen();
  }

  destroy(): void {
    this.off.abort();
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    cancelAnimationFrame(this.glide);
    clearTimeout(this.rest);
    this.canvas.remove();
  }

  draw(view: View, positions: Positions, options: DrawOptions): void {
    this.view = view;
    this.positions = positions;
    this.options = options;
    this.rebuild();
    if (!this.fitted && view.nodes.length > 0 && this.size.width > 0) this.fit();
  }

  private rebuild(): void {
    if (!this.view || !this.options) return;
    this.sceneNow = buildScene(this.view, this.positions, this.options);
    this.lettering = undefined;
    this.invalidate();
    this.events.shown();
  }

  /** Reads the page's colours again, after a change of theme. */
  retheme(): void {
    this.palette = readPalette();
    this.invalidate();
  }

  scene(): Scene | undefined {
    return this.sceneNow;
  }

  colours(): Palette {
    return this.palette;
  }

  toScreen({ x, y }: Point): Point {
    return { x: x * this.camera.scale + this.camera.x, y: y * this.camera.scale + this.camera.y };
  }

  scale(): number {
    return this.camera.scale;
  }

  private toWorld({ x, y }: Point): Point {
    return { x: (x - this.camera.x) / this.camera.scale, y: (y - this.camera.y) / this.camera.scale };
  }

  private resize(): void {
    const { width, height } = this.host.getBoundingClientRect();
    if (width === this.size.width && height === this.size.height) return;
    this.size = { width, height };
    const ratio = this.ratio();
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.still = undefined;
    if (!this.fitted && this.sceneNow && this.sceneNow.nodes.length > 0) this.fit();
    this.paintNow();
    this.events.shown();
  }

  private ratio(): number {
    return Math.min(2, window.devicePixelRatio || 1);
  }

  /** Draws the picture in the next frame. */
  private invalidate(): void {
    this.still = undefined;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paintNow());
  }

  private paintNow(): void {
    if (!this.sceneNow || this.size.width === 0) return;
    const began = performance.now();
    this.context.setTransform(this.ratio(), 0, 0, this.ratio(), 0, 0);
    const scale = step(this.camera.scale);
    if (this.lettering?.scale !== scale) this.lettering = letter(this.sceneNow, scale, this.options?.chosen);
    paint(this.context, this.sceneNow, this.lettering, this.camera, this.size.width, this.size.height, this.palette, { chosen: this.options?.chosen, hot: this.hot, byTone: this.options?.colour !== 'health' });
    this.slow = performance.now() - began > SLOW_MS || this.sceneNow.crowded;
    performance.measure('nephilia.paint', { start: began });
  }

  private moveCamera(camera: Camera): void {
    this.steered = true;
    if (this.slow && !this.still) {
      const bitmap = document.createElement('canvas');
      bitmap.width = this.canvas.width;
      bitmap.height = this.canvas.height;
      bitmap.getContext('2d', { alpha: false })!.drawImage(this.canvas, 0, 0);
      this.still = { bitmap, camera: { ...this.camera } };
    }
    this.camera = camera;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => (this.still ? this.paintStill(this.still) : this.paintNow()));
    if (this.still) {
      clearTimeout(this.rest);
      this.rest = setTimeout(() => this.invalidate(), REST_MS);
    }
    this.events.shown();
  }

  private paintStill({ bitmap, camera }: { bitmap: HTMLCanvasElement; camera: Camera }): void {
    const zoom = this.camera.scale / camera.scale;
    this.context.setTransform(this.ratio(), 0, 0, this.ratio(), 0, 0);
    this.context.fillStyle = this.palette.canvas;
    this.context.fillRect(0, 0, this.size.width, this.size.height);
    this.context.drawImage(bitmap, this.camera.x - camera.x * zoom, this.camera.y - camera.y * zoom, this.size.width * zoom, this.size.height * zoom);
  }

  /** Fits a graph that was laid out anew, unless a person has chosen what to look at. */
  refit(): void {
    if (!this.steered) this.fit();
  }

  fit(): void {
    const bounds = this.sceneNow?.bounds;
    const { width, height } = this.size;
    if (!bounds || bounds.right <= bounds.left || width === 0) return;
    this.fitted = true;
    this.steered = false;
    const { left, bottom } = this.covered;
    // From far away the names of the boxes stand above them.
    const [w, h] = [bounds.right - bounds.left, bounds.bottom - bounds.top];
    const scale = Math.max(MIN_SCALE, Math.min((width - left - 2 * MARGIN) / w, (height - bottom - 2 * MARGIN) / h, LARGEST_FIT));
    this.camera = { scale, x: left + (width - left) / 2 - (bounds.left + w / 2) * scale, y: (height - bottom) / 2 - (bounds.top + h / 2) * scale };
    this.invalidate();
    this.events.shown();
  }

  zoomBy(factor: number, at: Point = { x: this.size.width / 2, y: this.size.height / 2 }): void {
    const scale = Math.max(MIN_SCALE, Math.min(MAX_SCALE, this.camera.scale * factor));
    const real = scale / this.camera.scale;
    this.moveCamera({ scale, x: at.x - (at.x - this.camera.x) * real, y: at.y - (at.y - this.camera.y) * real });
  }

  /** Brings a node or edge into sight if it is outside, without changing the zoom. */
  reveal(id: string): void {
    const node = this.sceneNow?.nodes.find((one) => one.view.id === id);
    const edge = this.sceneNow?.edges.find((one) => one.view.id === id);
    const rect = node?.rect ?? edge?.bounds;
    if (!rect) return;
    const [a, b] = [this.toScreen({ x: rect.left, y: rect.top }), this.toScreen({ x: rect.right, y: rect.bottom })];
    if (a.x >= 0 && a.y >= 0 && b.x <= this.size.width && b.y <= this.size.height) return;
    const middle = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    this.moveCamera({ ...this.camera, x: this.camera.x + this.size.width / 2 - middle.x, y: this.camera.y + this.size.height / 2 - middle.y });
  }

  /** The whole graph as a picture, whatever part of it is in sight. */
  async png(): Promise<Blob> {
    const scene = this.sceneNow!;
    const [w, h] = [scene.bounds.right - scene.bounds.left + 2 * MARGIN, scene.bounds.bottom - scene.bounds.top + 2 * MARGIN];
    const scale = Math.min(2, 8000 / w, 8000 / h);
    const canvas = document.createElement('canvas');
    canvas.width = Math.ceil(w * scale);
    canvas.height = Math.ceil(h * scale);
    const camera = { scale, x: (MARGIN - scene.bounds.left) * scale, y: (MARGIN - scene.bounds.top) * scale };
    paint(canvas.getContext('2d', { alpha: false })!, scene, letter(scene, 1, undefined), camera, canvas.width, canvas.height, this.palette, { chosen: undefined, hot: undefined, byTone: this.options?.colour !== 'health' });
    return new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('The picture is too large.'))), 'image/png'));
  }

  private listen(): void {
    const { signal } = this.off;
    const at = (event: PointerEvent | WheelEvent | MouseEvent): Point => {
      const box = this.host.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    const find = (point: Point) => this.sceneNow && hit(this.sceneNow, this.toWorld(point), REACH / this.camera.scale);
    const down = new Map<number, Point>();
    let drag: { start: Point; last: Point; id: string | undefined; members: string[]; moved: boolean } | undefined;

    this.host.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      this.host.setPointerCapture(event.pointerId);
      down.set(event.pointerId, at(event));
      const point = at(event);
      const id = down.size === 1 ? find(point) : undefined;
      drag = { start: point, last: point, id, members: this.membersOf(id), moved: false };
    }, { signal });

    this.host.addEventListener('pointermove', (event) => {
      const point = at(event);
      if (down.size === 0) return this.hoverAt(point, find(point));
      const before = down.get(event.pointerId);
      down.set(event.pointerId, point);
      if (down.size === 2 && before) return this.pinch([...down.entries()].map(([pointer, now]) => (pointer === event.pointerId ? [before, now] : [now, now]) as [Point, Point]));
      if (!drag) return;
      if (!drag.moved && Math.hypot(point.x - drag.start.x, point.y - drag.start.y) < DRAG_FROM) return;
      if (!drag.moved) this.hoverAt(point, undefined);
      drag.moved = true;
      const [dx, dy] = [point.x - drag.last.x, point.y - drag.last.y];
      drag.last = point;
      if (drag.members.length > 0) this.moveNodes(drag.members, dx / this.camera.scale, dy / this.camera.scale);
      else this.moveCamera({ ...this.camera, x: this.camera.x + dx, y: this.camera.y + dy });
    }, { signal });

    const up = (event: PointerEvent) => {
      down.delete(event.pointerId);
      if (!drag || down.size > 0) return;
      const { moved, id, members } = drag;
      drag = undefined;
      if (event.type === 'pointercancel') return;
      if (!moved) this.events.choose(id);
      else if (members.length > 0) this.events.moved(Object.fromEntries(members.flatMap((member) => (this.positions[member] ? [[member, this.positions[member]!]] : []))));
    };
    this.host.addEventListener('pointerup', up, { signal });
    this.host.addEventListener('pointercancel', up, { signal });
    this.host.addEventListener('pointerleave', () => down.size === 0 && this.hoverAt({ x: 0, y: 0 }, undefined), { signal });
    this.host.addEventListener('dblclick', (event) => {
      const id = find(at(event));
      if (id !== undefined) this.events.open(id);
    }, { signal });
    this.host.addEventListener('wheel', (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      this.zoomBy(Math.exp(-event.deltaY * lines * 0.0016), at(event));
    }, { signal, passive: false });
  }

  /** The nodes that follow when an element is dragged: itself, or what is in a box. Edges and the ground drag the camera. */
  private membersOf(id: string | undefined): string[] {
    if (id === undefined || !this.view) return [];
    if (this.view.nodes.some((node) => node.id === id)) return [id];
    const inside = new Set(this.view.boxes.filter((box) => box.id === id || box.parent === id).map((box) => box.id));
    // The ground of a large box is ground: one drags a box by holding its inner or unnested frame only while it is chosen.
    return this.options?.chosen === id ? this.view.nodes.filter((node) => node.box !== undefined && inside.has(node.box)).map((node) => node.id) : [];
  }

  private moveNodes(ids: string[], dx: number, dy: number): void {
    const moved: Positions = {};
    for (const id of ids) {
      const now = this.positions[id];
      if (now) moved[id] = { x: now.x + dx, y: now.y + dy };
    }
    this.positions = { ...this.positions, ...moved };
    cancelAnimationFrame(this.glide);
    this.glide = requestAnimationFrame(() => this.rebuild());
  }

  private pinch([a, b]: [Point, Point][]): void {
    if (!a || !b) return;
    const [before, now] = [Math.hypot(a[0].x - b[0].x, a[0].y - b[0].y), Math.hypot(a[1].x - b[1].x, a[1].y - b[1].y)];
    if (before > 0) this.zoomBy(now / before, { x: (a[1].x + b[1].x) / 2, y: (a[1].y + b[1].y) / 2 });
  }

  private hoverAt(at: Point, found: string | undefined): void {
    const id = found !== undefined && this.view?.boxes.some((box) => box.id === found) ? undefined : found;
    if (id !== undefined || this.hot !== undefined) this.events.hover(id, at);
    if (id === this.hot) return;
    this.hot = id;
    this.host.style.cursor = found === undefined ? '' : 'pointer';
    this.invalidate();
  }
}

/** Lettering changes in steps of three per cent, so that a zoom does not letter every frame, and is never too small. */
function step(scale: number): number {
  return 1.03 ** Math.floor(Math.log(scale) / Math.log(1.03) + 1e-6);
}
