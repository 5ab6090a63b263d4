/** The name that was meant: what somebody gave and the names that there are in, the nearest of them out, if one is near. */

/** The name that was meant, if one is near enough. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  const most = Math.min(1 + Math.floor(name.length / 5), 3);
  const [best] = names
    .map((each) => ({ each, far: distance(name.toLowerCase(), each.toLowerCase()) }))
    .filter(({ far }) => far <= most)
    .sort((a, b) => a.far - b.far);
  return best?.each;
}

/** Why a word is none of those that there are, with the one that was meant, if one is near enough. */
export function noneOf(word: string, words: readonly string[]): string {
  const near = nearest(word, words);
  return `${word} is none of ${words.join(', ')}${near === undefined ? '' : `; did you mean ${near}?`}`;
}

/** How many letters have to be put in, taken out, changed or swapped with the next to make one of the other. */
function distance(a: string, b: string): number {
  let earlier: number[] = [];
  let before = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let row = 1; row <= a.length; row++) {
    const now = [row];
    for (let at = 1; at <= b.length; at++) {
      const cost = (from: number | undefined, more: number) => (from ?? Number.POSITIVE_INFINITY) + more;
      const swapped = a[row - 1] === b[at - 2] && a[row - 2] === b[at - 1];
      now.push(
        Math.min(
          cost(before[at], 1),
          cost(now[at - 1], 1),
          cost(before[at - 1], a[row - 1] === b[at - 1] ? 0 : 1),
          cost(swapped ? earlier[at - 2] : undefined, 1),
        ),
      );
    }
    [earlier, before] = [before, now];
  }
  return before.at(-1) ?? 0;
}
