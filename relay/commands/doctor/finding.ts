// One result of recado doctor.
export interface Finding {
  readonly what: string;
  readonly state: 'ok' | 'warning' | 'broken';
  /** What was found; for a warning or worse also what to do. */
  readonly text: string;
}

export const ok = (what: string, text: string): Finding => ({ what, state: 'ok', text });
export const warning = (what: string, text: string): Finding => ({ what, state: 'warning', text });
export const broken = (what: string, text: string): Finding => ({ what, state: 'broken', text });
