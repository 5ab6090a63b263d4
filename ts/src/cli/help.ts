/** The help of the native verbs: what a verb declares in, a page of a given width out. Nothing else loads it. */
import { commandLine, paragraphs, row, wrap } from './layout.js';
import { type Declaration, declared, GROUPS, type Verb } from './options.js';

/** The help of a native verb. */
export function verbHelp(name: string, verb: Verb, width: number): string {
  const { description = '', details = '', examples = [] } = verb.usage ?? {};
  const { options, operands } = declared(verb);
  const shown = options.filter(({ names }) => !names.some((each) => each in verb.idle));
  const groups = Object.entries(GROUPS).flatMap(([group, title]) => {
    const rows = shown
      .filter((option) => option.group === group)
      .map((option) => row(spelled(option), told(option), width));
    return rows.length > 0 ? ['', title, ...rows] : [];
  });
  const shows = examples.flatMap(([what, line]) => [
    wrap(/[?!]$/.test(what) ? what : `${what}:`, width, '  '),
    commandLine(line.replaceAll('$0', 'bulkhaul'), width),
  ]);
  return [
    wrap(`bulkhaul ${name}: ${description}`, width),
    '',
    wrap(`Usage: bulkhaul ${name} [OPTIONS] ${operands.words}`, width, '', '    '),
    ...paragraphs(details).flatMap((paragraph) => ['', wrap(paragraph, width)]),
    ...groups,
    ...(shows.length > 0 ? ['', 'Examples', ...shows] : []),
    '',
  ].join('\n');
}

function spelled({ names, value }: Declaration): string {
  return names.join(', ') + (value === undefined ? '' : ` ${value}`);
}

function told({ help, default: standard, repeatable }: Declaration): string {
  const more = [...(repeatable ? ['repeatable'] : []), ...(standard === undefined ? [] : [`default: ${standard}`])];
  return more.length > 0 ? `${help} (${more.join('; ')})` : help;
}
