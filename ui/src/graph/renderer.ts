import cytoscape, { type Core, type EdgeSingular, type ElementDefinition, type NodeSingular } from 'cytoscape';

import { edgeLabel, edgeTone, edgeWidth, type EdgeColour, type EdgeLabel, type EdgeWidth } from './labels';
import type { Point, Positions } from './layout';
import type { View } from './model';
import { FONT, NODE_FONT_SIZE, readPalette, stylesheet, type Palette } from './style';

export interface DrawOptions {
  labels: readonly EdgeLabel[];
  width: EdgeWidth;
  colour: EdgeColour;
  chosen: string | undefined;
}

export interface RendererEvents {
  choose(id: string | undefined): void;
  open(id: string): void;
  hover(id: string | undefined, at: Point): void;
  moved(positions: Positions): void;
}

interface Drawn {
  signature: string;
  classes: string;
}

/** Above these, every edge is a straight line and labels appear only around what is chosen. */
const MANY_EDGES = 600;

/** What a fit leaves free: a margin, and the strip of controls on the left. A handful of nodes is not blown up to fill a wall. */
const MARGIN = 28;
const CONTROLS_WIDTH = 52;
const LARGEST_FIT = 1.2;

/** Draws views with cytoscape and changes only what differs from the last one. */
export class Renderer {
  readonly cy: Core;
  private palette: Palette;
  private drawn = new Map<string, Drawn>();
  private view: View | undefined;
  private fitted = false;

  constructor(
    private readonly container: HTMLElement,
    events: RendererEvents,
    large: boolean,
  ) {
    forbidStyleElement();
    this.palette = readPalette();
    this.cy = cytoscape({
      container,
      style: stylesheet(this.palette),
      minZoom: 0.04,
      maxZoom: 3,
      boxSelectionEnabled: false,
      selectionType: 'single',
      autoungrabify: false,
      // While panning and zooming a large graph its picture moves, and is drawn anew at rest.
      textureOnViewport: large,
      hideEdgesOnViewport: false,
      pixelRatio: large ? 1 : 'auto',
      layout: { name: 'preset' },
    } as cytoscape.CytoscapeOptions);
    this.cy.on('tap', (event) => events.choose(event.target === this.cy ? undefined : (event.target as NodeSingular).id()));
    this.cy.on('dbltap', 'node', (event) => events.open((event.target as NodeSingular).id()));
    this.cy.on('mouseover', 'node, edge', (event) => {
      const element = event.target as NodeSingular | EdgeSingular;
      if (element.isNode() && element.hasClass('box')) return;
      this.heat(element);
      container.style.cursor = 'pointer';
      events.hover(element.id(), event.renderedPosition);
    });
    this.cy.on('mouseout', 'node, edge', () => {
      this.cool();
      container.style.cursor = '';
      events.hover(undefined, { x: 0, y: 0 });
    });
    this.cy.on('position', 'node', (event) => this.bend((event.target as NodeSingular).connectedEdges()));
    this.cy.on('dragfree', 'node', (event) => {
      const node = event.target as NodeSingular;
      const moved: Positions = {};
      for (const one of node.isParent() ? node.descendants().toArray() : [node]) moved[one.id()] = { ...(one as NodeSingular).position() };
      events.moved(moved);
    });
  }

  destroy(): void {
    this.cy.destroy();
  }

  /** Reads the page's colours again, after a change of theme. */
  retheme(): void {
    this.palette = readPalette();
    this.cy.style(stylesheet(this.palette));
  }

  draw(view: View, positions: Positions, options: DrawOptions): void {
    this.view = view;
    const many = view.edges.length > MANY_EDGES;
    const next = new Map<string, Drawn>();
    const added: ElementDefinition[] = [];
    this.cy.batch(() => {
      for (const box of view.boxes) {
        this.put(next, added, box.id, ['box', box.kind, box.health, chosen(options, box.id)], {
          label: `${box.label}  ${box.members.length}`, mx: textWidth(`${box.label}  ${box.members.length}`, 11.5, 600) + 14, ...(box.parent ? { parent: box.parent } : {}),
        });
      }
      for (const node of view.nodes) {
        const classes = [
          node.node?.type ?? 'folded', node.health, node.inMesh ? '' : 'outside', node.folded ? 'folded' : '', node.outages.length > 0 ? 'outage' : '',
          node.dimmed ? 'dimmed' : '', chosen(options, node.id),
        ];
        const label = nodeLabel(node.label, node.folded?.members.length);
        this.put(next, added, node.id, classes, { label, w: nodeWidth(label), ...(node.box ? { parent: node.box } : {}) }, positions[node.id]);
      }
      for (const edge of view.edges) {
        const near = options.chosen === edge.source || options.chosen === edge.destination || options.chosen === edge.id;
        const classes = [
          edgeTone(edge.metrics, options.colour), options.colour === 'health' ? '' : 'by-tone', edge.metrics.mtls === false ? 'plaintext' : '',
          edge.source === edge.destination ? 'loop' : many ? 'straight' : '', edge.dimmed ? 'dimmed' : '', chosen(options, edge.id),
        ];
        this.put(next, added, edge.id, classes, {
          source: edge.source, target: edge.destination, width: edgeWidth(edge.metrics, options.width),
          label: many && !near ? '' : edgeLabel(edge.metrics, options.labels),
          cpd: [0, 0], cpw: [0.25, 0.75],
        });
      }
      const gone = [...this.drawn.keys()].filter((id) => !next.has(id));
      // A box that goes away takes its children with it unless they have left it before.
      if (added.length > 0) this.cy.add(added);
      for (const node of view.nodes) this.reparent(node.id, node.box);
      for (const box of view.boxes) this.reparent(box.id, box.parent);
      if (gone.length > 0) this.cy.collection(gone.map((id) => this.cy.getElementById(id)) as never).remove();
      for (const node of view.nodes) {
        const at = positions[node.id];
        const element = this.cy.getElementById(node.id);
        if (!at || element.empty() || element.grabbed()) continue;
        const now = element.position();
        if (now.x !== at.x || now.y !== at.y) element.position({ ...at });
      }
    });
    this.drawn = next;
    if (added.length > 0 && !many) this.bend(this.cy.edges());
    if (!this.fitted && view.nodes.length > 0) {
      this.fitted = true;
      this.fit();
    }
  }

  private reparent(id: string, parent: string | undefined): void {
    const element = this.cy.getElementById(id);
    if (element.empty()) return;
    const now = (element as NodeSingular).parent().first().id() as string | undefined;
    if ((now ?? undefined) !== parent) element.move({ parent: parent ?? null } as never);
  }

  private put(next: Map<string, Drawn>, added: ElementDefinition[], id: string, classList: string[], data: Record<string, unknown>, position?: Point): void {
    const classes = classList.filter(Boolean).join(' ');
    const signature = JSON.stringify(data);
    const before = this.drawn.get(id);
    next.set(id, { signature, classes });
    if (!before) {
      added.push({ group: 'source' in data ? 'edges' : 'nodes', data: { id, ...data }, classes, ...(position ? { position: { ...position } } : {}) });
      return;
    }
    if (before.signature === signature && before.classes === classes) return;
    const element = this.cy.getElementById(id);
    if (before.signature !== signature) {
      const { parent: _parent, source: _source, target: _target, cpd: _cpd, cpw: _cpw, ...own } = data;
      element.data(own);
    }
    if (before.classes !== classes) element.classes(classes);
  }

  /** Gives edges the shape of an S from left to right, and parts the two edges between one pair. */
  private bend(edges: cytoscape.EdgeCollection): void {
    if (this.view && this.view.edges.length > MANY_EDGES) return;
    this.cy.batch(() => {
      edges.forEach((edge) => {
        const a = edge.source().position();
        const b = edge.target().position();
        const [dx, dy] = [b.x - a.x, b.y - a.y];
        const length = Math.hypot(dx, dy) || 1;
        // An S that is too steep for its length would turn back into its own node.
        const limit = Math.min(46, length * 0.12);
        const swing = Math.max(-limit, Math.min(limit, (dy * dx * 0.2) / length));
        const twin = this.cy.getElementById(`${edge.target().id()}→${edge.source().id()}`).nonempty();
        const bow = twin ? 14 : Math.abs(dx) < 90 && Math.abs(dy) > 140 ? 26 : 0;
        edge.data({ cpd: [Math.round(bow + swing), Math.round(bow - swing)], cpw: [bendAt(edge.source(), dx, dy, length), 1 - bendAt(edge.target(), dx, dy, length)] });
      });
    });
  }

  private heat(element: NodeSingular | EdgeSingular): void {
    this.cy.batch(() => {
      element.addClass('hot');
      if (element.isNode()) element.connectedEdges().addClass('hot');
    });
  }

  private cool(): void {
    this.cy.batch(() => this.cy.elements('.hot').removeClass('hot'));
  }

  fit(): void {
    const bounds = this.cy.elements().boundingBox({});
    const { width, height } = this.container.getBoundingClientRect();
    if (bounds.w === 0 || width === 0) return;
    const zoom = Math.min((width - CONTROLS_WIDTH - 2 * MARGIN) / bounds.w, (height - 2 * MARGIN) / bounds.h, LARGEST_FIT);
    this.cy.viewport({
      zoom: Math.max(this.cy.minZoom(), zoom),
      pan: { x: CONTROLS_WIDTH + (width - CONTROLS_WIDTH) / 2 - (bounds.x1 + bounds.w / 2) * zoom, y: height / 2 - (bounds.y1 + bounds.h / 2) * zoom },
    });
  }

  zoomBy(factor: number): void {
    const { width, height } = this.container.getBoundingClientRect();
    this.cy.zoom({ level: this.cy.zoom() * factor, renderedPosition: { x: width / 2, y: height / 2 } });
  }

  /** Brings an element into sight if it is outside, without changing the zoom. */
  reveal(id: string): void {
    const element = this.cy.getElementById(id);
    if (element.empty()) return;
    const box = element.renderedBoundingBox({});
    const { width, height } = this.container.getBoundingClientRect();
    if (box.x1 < 0 || box.y1 < 0 || box.x2 > width || box.y2 > height) this.cy.animate({ center: { eles: element }, duration: 180 });
  }

  png(): Promise<Blob> {
    return this.cy.png({ output: 'blob-promise', full: true, scale: 2, bg: this.palette.canvas, maxWidth: 8000, maxHeight: 8000 } as never) as unknown as Promise<Blob>;
  }

  colours(): Palette {
    return this.palette;
  }
}

/** Where along an edge it may bend first: a quarter of the way, but not within the node that it leaves. */
function bendAt(node: NodeSingular, dx: number, dy: number, length: number): number {
  const border = Math.min((node.width() / 2) * (length / Math.max(Math.abs(dx), 1)), (node.height() / 2) * (length / Math.max(Math.abs(dy), 1)));
  return Math.round(Math.max(0.25, Math.min(0.45, (border + 14) / length)) * 100) / 100;
}

function chosen(options: DrawOptions, id: string): string {
  return options.chosen === id ? 'chosen' : '';
}

export function nodeLabel(label: string, members?: number): string {
  const short = label.length > 30 ? `${label.slice(0, 17)}…${label.slice(-11)}` : label;
  return members === undefined ? short : `${short}  +${members}`;
}

export function nodeWidth(label: string): number {
  return Math.max(84, Math.ceil(textWidth(label, NODE_FONT_SIZE, 600)) + 46);
}

let measure: CanvasRenderingContext2D | null = null;
const widths = new Map<string, number>();

function textWidth(text: string, size: number, weight: number): number {
  const key = `${size} ${weight} ${text}`;
  const known = widths.get(key);
  if (known !== undefined) return known;
  measure ??= document.createElement('canvas').getContext('2d');
  if (!measure) return text.length * size * 0.6;
  measure.font = `${weight} ${size}px ${FONT}`;
  const width = measure.measureText(text).width;
  if (widths.size > 20_000) widths.clear();
  widths.set(key, width);
  return width;
}

/** Cytoscape would add a style element, which the content security policy forbids; the page's stylesheet holds that rule. */
function forbidStyleElement(): void {
  const id = '__________cytoscape_stylesheet';
  if (document.getElementById(id)) return;
  const marker = document.createElement('meta');
  marker.id = id;
  document.head.appendChild(marker);
}
