/** How help is laid out: texts and a width in, lines out, of which none is wider, unless one word is. */

/** Columns where nothing says how many there are. */
const WIDTH = 80;
/** Where the words for an option begin, and from how many columns on they stand beside it. */
const COLUMN = 28;
const BESIDE = 72;

/** How many columns a stream has: those of its terminal. */
export function widthOf(stream: object): number {
  const { columns } = stream as { columns?: number };
  return columns !== undefined && columns > 0 ? columns : WIDTH;
}

/** One entry of a list of options: beside each other where there is room, else one below the other. */
export function row(head: string, text: string, width: number): string {
  const start = `  ${head}`;
  if (width < BESIDE) return `${wrap(head, width, '  ', '      ')}\n${wrap(text, width, '      ')}`;
  const indent = ' '.repeat(COLUMN);
  const below = wrap(text, width, indent);
  return start.length > COLUMN - 2
    ? `${wrap(head, width, '  ', '      ')}\n${below}`
    : start.padEnd(COLUMN) + below.trimStart();
}

/** `text` in lines of at most `width` columns: the first after `first`, the others after `indent`. */
export function wrap(text: string, width: number, first = '', indent = first): string {
  const lines: string[] = [];
  let line = first;
  for (const word of text.split(/ +/)) {
    if (line.trim() === '') line += word;
    else if (line.length + 1 + word.length <= width) line += ` ${word}`;
    else {
      lines.push(line);
      line = indent + word;
    }
  }
  return [...lines, line].join('\n');
}

/** A command line that a shell takes as it is shown. */
export function commandLine(line: string, width: number): string {
  const lines = wrap(line, width - 2, '    ', '        ').split('\n');
  return lines.join(' \\\n');
}

/** Paragraphs of a text that is written in lines, each as one line. */
export function paragraphs(text: string): string[] {
  return text
    .trim()
    .split(/\n\s*\n/)
    .map((paragraph) =>
      paragraph
        .trim()
        .split(/\s*\n\s*/)
        .join(' '),
    );
}
