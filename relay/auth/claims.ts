// Finds claims by the names in the settings: JWT_ACCOUNT_CLAIM, JWT_TOPICS_CLAIM.

/**
 * The claim with exactly this name (`https://issuer.example/account`), or else with the dots as a path
 * (`app_metadata.tenant`). Inherited properties do not count.
 */
export function claimAt(payload: object, claim: string): unknown {
  const whole = own(payload, claim);
  if (whole !== undefined) return whole;
  let value: unknown = payload;
  for (const name of claim.split('.')) value = own(value, name);
  return value;
}

function own(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
  return Reflect.get(value, name);
}

/** Nests claims as issuers do: a name with dots becomes a path, unless it is a URI. */
export function nestClaims(claims: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const nested: Record<string, unknown> = {};
  for (const [claim, value] of Object.entries(claims)) {
    const path = /[:/]/.test(claim) ? [claim] : claim.split('.');
    put(nested, path, value);
  }
  return nested;
}

function put(target: Record<string, unknown>, [name = '', ...rest]: string[], value: unknown): void {
  if (rest.length === 0) {
    target[name] = value;
    return;
  }
  const there = own(target, name);
  const inner: Record<string, unknown> = typeof there === 'object' && there !== null ? { ...there } : {};
  put(inner, rest, value);
  target[name] = inner;
}
