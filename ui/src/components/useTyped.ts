import { useEffect, useState } from 'react';

const TYPING_MS = 250;

/** The text of a field whose value the URL holds: told to the URL after a pause in typing, taken from it when it changes by itself. */
export function useTyped(value: string, set: (value: string) => void): [string, (text: string) => void] {
  const [text, setText] = useState(value);
  const [sent, setSent] = useState(value);
  if (value !== sent) {
    // The back button or a link.
    setSent(value);
    setText(value);
  }
  useEffect(() => {
    if (text === sent) return;
    const timer = setTimeout(() => {
      setSent(text);
      set(text);
    }, TYPING_MS);
    return () => clearTimeout(timer);
  }, [text, sent, set]);
  return [text, setText];
}
