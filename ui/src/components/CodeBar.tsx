import '../styles/endpoints.css';

import { CODE_CLASSES, codeParts } from '../domain/endpoints';

/** Requests by the class of their HTTP status, as parts of one bar. */
export function CodeBar({ byCode, width = 96 }: { byCode: Record<string, number>; width?: number | string }) {
  const parts = codeParts(byCode);
  const total = parts.reduce((sum, part) => sum + part.count, 0);
  const text = parts.map((part) => part.text).join(', ') || 'none';
  return (
    <span className="code-bar" role="img" aria-label={`By status: ${text}`} title={text} style={{ width }}>
      {parts.map((part) => (
        // What is rare still shows.
        <span key={part.of} className={part.of} style={{ flexGrow: Math.max(part.count / total, 0.03) }} />
      ))}
    </span>
  );
}

/** The same, with the codes of each class written out. */
export function Codes({ byCode }: { byCode: Record<string, number> }) {
  return (
    <div className="codes">
      <CodeBar byCode={byCode} width="100%" />
      <ul>
        {codeParts(byCode).map((part) => (
          <li key={part.of}>
            <span className={`code-mark ${part.of}`} aria-hidden="true" /> <b>{CODE_CLASSES[part.of]}</b> <span className="muted">{part.text}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}
