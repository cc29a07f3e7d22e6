/** What a page is given. */
export interface PageProps {
  /** The path's segments. */
  parts: string[];
}
