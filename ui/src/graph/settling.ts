/** When a layout was made: with how many edges, and whether a person has moved a node since. */
export interface Made {
  edges: number;
  touched: boolean;
}

/** For so long the set of edges must not grow before a layout counts as settled; after the second time it does in any case. */
export const SETTLE_MS = 5_000;
export const SETTLE_AT_MOST_MS = 60_000;

/**
 * Whether a layout is to be made anew: while the mesh is new, as soon as there are noticeably more edges; later, if it was made with
 * less than most of today's. What a person has arranged stays.
 */
export function outgrown(made: Made, settled: boolean, edges: number): boolean {
  return !made.touched && made.edges < (settled ? 0.6 : 0.95) * edges;
}
