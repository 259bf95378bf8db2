// The fenced snippets of a page. A comment before a fence says how it is run:
//   <!-- given: … -->     what the snippet leaves out: declarations for TypeScript, statements for SQL and shell
//   <!-- not run: why --> what cannot be run here
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';

export interface Snippet {
  readonly page: string;
  /** Of the fence, from 1. */
  readonly line: number;
  readonly language: string;
  readonly text: string;
  readonly given: string;
  /** Why it is not run; null: it is. */
  readonly notRun: string | null;
}

const FENCE = /^( *)```([a-z]*)[^\n]*\n([\s\S]*?)^ *```$/gm;
const MARK = /^<!--\s*(given|not run):\s*([\s\S]*?)-->\s*$/;

export function snippetsOf(page: string): Snippet[] {
  const source = readFileSync(join(packageRoot, page), 'utf8');
  return [...source.matchAll(FENCE)].map((match) => {
    const before = source.slice(0, match.index);
    const [, kind, said] = MARK.exec(before.slice(Math.max(0, before.lastIndexOf('<!--')))) ?? [];
    const indent = new RegExp(`^${match[1]}`, 'gm');
    return {
      page,
      line: before.split('\n').length,
      language: match[2]!,
      text: match[3]!.replace(indent, ''),
      given: kind === 'given' ? said! : '',
      notRun: kind === 'not run' ? said!.trim() : null,
    };
  });
}
