// The table of settings, for people.
import { type Setting, settingsIn } from './setting.ts';
import { table } from './table.ts';

/** For a terminal: name and default on one line, the help wrapped beneath. */
export function settingsAsText(): string {
  return settingsIn(table)
    .map((setting) => `  ${setting.name}  (${defaultOf(setting)})\n${wrap(setting.help, 92, '      ')}`)
    .join('\n');
}

/** As a Markdown table, for the README. */
export function settingsAsMarkdown(): string {
  const rows = settingsIn(table).map(
    ({ name, absent, default: text, help }) => `| \`${name}\` | ${absent ?? `\`${text}\``} | ${help} |`,
  );
  return ['| Variable | Default | Meaning |', '|---|---|---|', ...rows].join('\n');
}

function defaultOf({ absent, default: text }: Setting): string {
  return absent === undefined ? `default ${text}` : `unset: ${absent}`;
}

function wrap(text: string, width: number, indent: string): string {
  const lines: string[] = [];
  for (const part of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + part.length <= width)
      lines[lines.length - 1] = `${last} ${part}`;
    else lines.push(indent + part);
  }
  return lines.join('\n');
}
