/** The path under which the interface is served, without a slash at its end: the server writes it into the page. */
export const base = readBase(document.querySelector<HTMLMetaElement>('meta[name="base-path"]')?.content);

export function readBase(content: string | undefined): string {
  return content?.startsWith('/') ? content.replace(/\/+$/, '') : '';
}
