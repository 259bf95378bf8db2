// Making and keeping elements. Text goes in as text only: nothing that comes from a clinic is ever read as markup.

/**
 * @param {string} tag
 * @param {Record<string, unknown>} attributes `on…` are listeners; null, undefined and false are left out
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? '' : String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** A block of code, which scrolls when it is long: so it can be reached with the keyboard, and has a name. */
export function codeBlock(label, ...content) {
  return element('pre', { role: 'group', tabindex: '0', 'aria-label': label }, content);
}

/** Sets a text only where it changed, so that a screen reader does not read it again. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/**
 * Brings a list to show `items`. Elements of items that are gone are reused for new ones, except the one with the focus:
 * the row that somebody uses must not become another.
 * @param {() => Element} make
 * @param {(element: Element, item: object) => void} update every time
 */
export function showList(list, items, { key, make, update }) {
  const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
  const names = items.map((item) => String(key(item)));
  const wanted = new Set(names);
  const free = new Set(
    [...known.values()].filter(
      (child) => !wanted.has(child.dataset.key) && !child.contains(document.activeElement),
    ),
  );
  for (const [index, item] of items.entries()) {
    const name = names[index];
    const place = list.children[index] ?? null;
    let child = known.get(name);
    if (!child) {
      child = free.has(place) ? place : (free.values().next().value ?? make());
      known.delete(child.dataset.key);
    }
    known.delete(name);
    free.delete(child);
    child.dataset.key = name;
    update(child, item);
    if (place !== child) list.insertBefore(child, place);
  }
  for (const child of known.values()) child.remove();
}

/** Runs `change`; if it takes the focused row away, the focus goes to the row, its successor, or its list's heading. */
export function keepingFocus(root, change) {
  const row = document.activeElement?.closest('[data-key]');
  const list = row?.parentElement;
  const index = list ? [...list.children].indexOf(row) : -1;
  change();
  if (!row || !root.contains(list) || (document.activeElement && document.activeElement !== document.body))
    return;
  const again = root.querySelector(`[data-key="${CSS.escape(row.dataset.key)}"]`);
  const next = again ?? list.children[Math.min(index, list.children.length - 1)];
  const target = next?.querySelector('button') ?? list.closest('.card')?.querySelector('h2');
  target?.focus();
}

/** Has something read by a screen reader. */
export function announce(text) {
  setText(document.querySelector('#announcer'), text);
}
