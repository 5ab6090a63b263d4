/** Numbers for people: bytes to base 1024, rates, durations, counts. Plain ASCII, of bounded width. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** `512 B`, `1.5 KiB`, `2.25 GiB`: three significant digits. */
export function bytes(value: number): string {
  let unit = 0;
  let scaled = value;
  while (scaled >= 999.5 && unit < UNITS.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  const text = unit === 0 ? String(Math.round(scaled)) : scaled.toFixed(scaled >= 99.95 ? 0 : scaled >= 9.995 ? 1 : 2);
  return `${text} ${UNITS[unit]}`;
}

/** Bytes a second. */
export function rate(bytesPerSecond: number): string {
  return `${bytes(Number.isFinite(bytesPerSecond) ? bytesPerSecond : 0)}/s`;
}

/** Seconds beyond which nobody wants to know how many. */
const YEAR = 365 * 86_400;

/** `0.4 s`, `42 s`, `3m05s`, `2h00m10s`, `1d02h00m`, `over a year`. */
export function duration(seconds: number): string {
  if (!(seconds < YEAR)) return 'over a year';
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const total = Math.round(seconds);
  if (total < 60) return `${total} s`;
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0');
  if (total < 3600) return `${Math.floor(total / 60)}m${two(total % 60)}s`;
  if (total < 86_400) return `${Math.floor(total / 3600)}h${two((total / 60) % 60)}m${two(total % 60)}s`;
  return `${Math.floor(total / 86_400)}d${two((total / 3600) % 24)}h${two((total / 60) % 60)}m`;
}

/** `1 file`, `12,345 files`. */
export function count(value: number, one: string, many = `${one}s`): string {
  return `${value.toLocaleString('en-US')} ${value === 1 ? one : many}`;
}
