import { layout, place, type LayoutInput, type Positions } from './layout';

export interface LayoutRequest {
  id: number;
  input: LayoutInput;
  /** Positions to keep; undefined lays everything out anew. */
  known: Positions | undefined;
}

export interface LayoutReply {
  id: number;
  positions: Positions;
}

self.onmessage = ({ data }: MessageEvent<LayoutRequest>) => {
  const positions = data.known ? place(data.input, data.known) : layout(data.input);
  self.postMessage({ id: data.id, positions } satisfies LayoutReply);
};
