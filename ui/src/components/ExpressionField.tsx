import { useId, useState } from 'react';

import { ExpressionError, parseExpression, type Fields } from '../domain/expression';
import { Icon } from './Icon';
import { useTyped } from './useTyped';

interface Props {
  label: string;
  placeholder: string;
  fields: Fields;
  value: string;
  set: (value: string) => void;
  /** What the expression finds. */
  note: string;
}

/** A field for an expression; shows where it does not parse, and completes field names. */
export function ExpressionField({ label, placeholder, fields, value, set, note }: Props) {
  const [text, setText] = useTyped(value, set);
  const [focused, setFocused] = useState(false);
  const id = useId();
  const fault = faultOf(text, fields);
  return (
    <div className="expression" onFocus={() => setFocused(true)} onBlur={() => setFocused(false)}>
      <label className="visually-hidden" htmlFor={id}>
        {label} by expression
      </label>
      <input
        id={id}
        className="input"
        value={text}
        placeholder={placeholder}
        spellCheck={false}
        autoComplete="off"
        aria-invalid={fault !== undefined}
        aria-describedby={`${id}-help`}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === 'Enter') setFocused(false);
          else setFocused(true);
          if (event.key === 'Escape' && text) {
            event.stopPropagation();
            setText('');
          }
        }}
      />
      {text && (
        <button type="button" className="expression-clear" aria-label={`Clear ${label.toLowerCase()}`} onClick={() => setText('')}>
          <Icon name="close" size={11} />
        </button>
      )}
      {!fault && note && <span className="expression-note">{note}</span>}
      <div id={`${id}-help`} className={focused || fault ? 'expression-help popover left' : 'visually-hidden'}>
        {fault ? (
          <p className="fault">{fault}</p>
        ) : (
          <>
            <p>
              Compare fields with <code>= != ~ &gt; &lt;</code>, join with <code>and or not ( )</code>. A bare word matches names.
            </p>
            <div className="expression-fields">
              {Object.entries(fields).map(([field, meaning]) => (
                <button key={field} type="button" title={meaning} tabIndex={-1} onPointerDown={(event) => event.preventDefault()} onClick={() => setText(`${text}${text && !/[\s(]$/.test(text) ? ' and ' : ''}${field}`)}>
                  {field}
                </button>
              ))}
            </div>
          </>
        )}
      </div>
    </div>
  );
}

function faultOf(text: string, fields: Fields): string | undefined {
  try {
    parseExpression(text, fields);
    return undefined;
  } catch (error) {
    return error instanceof ExpressionError ? `At character ${error.position + 1}: ${error.message}.` : String(error);
  }
}
