// The beginning of a payload as text, without writing out all of it: one may have megabytes.

/** @param {number} most characters; what is longer ends in … */
export function preview(value, most) {
  const parts = [];
  let length = 0;
  const full = () => length > most;
  const put = (text) => {
    parts.push(text);
    length += text.length;
  };
  const write = (part) => {
    if (full()) return;
    if (typeof part === 'string') put(JSON.stringify(part.slice(0, most)));
    else if (part === null || typeof part !== 'object') put(String(part));
    else if (Array.isArray(part)) writeAll('[', part, ']', (index) => write(part[index]));
    else {
      writeAll('{', part, '}', (name) => {
        put(`${JSON.stringify(name)}:`);
        write(part[name]);
      });
    }
  };
  const writeAll = (open, part, close, writeOne) => {
    put(open);
    let before = '';
    for (const name in part) {
      if (full()) return;
      put(before);
      before = ',';
      writeOne(name);
    }
    put(close);
  };
  write(value);
  const text = parts.join('');
  return text.length > most ? `${text.slice(0, most)}…` : text;
}
