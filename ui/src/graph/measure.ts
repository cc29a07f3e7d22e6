/** Sizes of what is drawn, before it is drawn. */
export const FONT = "'Inter Variable', system-ui, sans-serif";
export const NODE_FONT_SIZE = 15;
export const NODE_WEIGHT = { well: 500, unwell: 650 };
export const NODE_HEIGHT = 36;
export const LABEL_SIZE = 12.5;
export const BOX_FONT_SIZE = 13;
export const MARK_RADIUS = 7;
/** What a box leaves free around its content, its name included. */
export const BOX_PADDING = { x: 18, top: 32, bottom: 18 };
/** Space on the left of a node's label for its health. */
export const NODE_ICON = 29;

const KNOWN = 20_000;
const widths = new Map<string, number>();
let context: CanvasRenderingContext2D | null | undefined;

export function textWidth(text: string, size: number, weight: number): number {
  const key = `${weight} ${size} ${text}`;
  const known = widths.get(key);
  if (known !== undefined) return known;
  if (context === undefined) context = typeof document === 'undefined' ? null : document.createElement('canvas').getContext('2d');
  let width = text.length * size * 0.56;
  if (context) {
    context.font = `${weight} ${size}px ${FONT}`;
    width = context.measureText(text).width;
  }
  if (widths.size > KNOWN) widths.clear();
  widths.set(key, width);
  return width;
}

/** A long name keeps its two ends, which tell names apart. */
export function nodeLabel(label: string, members?: number): string {
  const short = label.length > 30 ? `${label.slice(0, 17)}…${label.slice(-11)}` : label;
  return members === undefined ? short : `${short}  +${members}`;
}

export function nodeWidth(label: string): number {
  return Math.max(84, Math.ceil(textWidth(label, NODE_FONT_SIZE, NODE_WEIGHT.unwell)) + NODE_ICON + 10);
}
