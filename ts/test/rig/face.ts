/**
 * The library's face, as an editor sees it: what `index.ts` exports, every type that leads to, and the comment above each.
 *
 * It is read from the syntax trees of the sources, so that nothing has to be listed, and nothing can be left out.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseAst } from 'rolldown/parseAst';

/** A field of an object that callers give (`asked`) or are given. */
export interface Field {
  /** Its module, the type that it is in, and its name. */
  readonly at: string;
  readonly words: string;
  readonly optional: boolean;
  readonly number: boolean;
  readonly asked: boolean;
}

/** A function, a class, or what can be called or read of a class. */
export interface Callable {
  readonly name: string;
  readonly words: string;
}

type Node = { type: string; start: number; end: number } & Record<string, unknown>;
interface Module {
  readonly path: string;
  readonly text: string;
  readonly body: readonly Node[];
}

const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null && 'type' in value;
const nodesIn = (value: unknown): Node[] => (Array.isArray(value) ? value : [value]).filter(isNode);
/** `[Symbol.asyncIterator]` has its name as it is written. */
function nameOf(node: unknown): string {
  if (!isNode(node)) return '';
  if (node.type === 'MemberExpression') return `[${nameOf(node.object)}.${nameOf(node.property)}]`;
  return String(node.name ?? node.value ?? '');
}

export class Face {
  readonly fields: Field[] = [];
  readonly callables: Callable[] = [];
  /** What is exported, each with the comment at its declaration. */
  readonly exports: { readonly name: string; readonly words: string }[] = [];

  readonly #modules = new Map<string, Module>();
  readonly #seen = new Set<string>();

  constructor(readonly sources: string) {
    const index = this.#module('index.ts');
    for (const { source, specifiers } of index.body.filter(({ type }) => type === 'ExportNamedDeclaration')) {
      for (const { local, exported } of nodesIn(specifiers)) {
        const found = this.#declaration(index, nameOf(source), nameOf(local));
        this.exports.push({ name: nameOf(exported), words: found.words });
        this.#declared(found.module, found.node, nameOf(exported), found.words, false);
      }
    }
  }

  #module(path: string): Module {
    const known = this.#modules.get(path);
    if (known !== undefined) return known;
    const text = readFileSync(join(this.sources, path), 'utf8');
    const module = { path, text, body: parseAst(text, { lang: 'ts' }, path).body as unknown as Node[] };
    this.#modules.set(path, module);
    return module;
  }

  /** What a module means by a name that it has from another. */
  #declaration(from: Module, source: string, name: string): { module: Module; node: Node; words: string } {
    const module = this.#module(join(dirname(from.path), source.replace(/\.js$/, '.ts')));
    return this.#own(module, name) ?? this.#imported(module, name) ?? this.#missing(module, name);
  }

  #missing(module: Module, name: string): never {
    throw new Error(`${module.path} has no ${name}`);
  }

  #own(module: Module, name: string) {
    for (const statement of module.body) {
      for (const node of nodesIn(statement.declaration ?? statement)) {
        const names = [node.id, ...nodesIn(node.declarations).map(({ id }) => id)].map(nameOf);
        if (names.includes(name)) return { module, node, words: wordsAbove(module, statement) };
      }
    }
    return undefined;
  }

  #imported(module: Module, name: string) {
    for (const { type, source, specifiers } of module.body) {
      if (!isNode(source) || !/^(?:Import|ExportNamed)Declaration$/.test(type) || !nameOf(source).startsWith('.'))
        continue;
      for (const { local, imported, exported } of nodesIn(specifiers)) {
        if (nameOf(exported ?? local) === name)
          return this.#declaration(module, nameOf(source), nameOf(imported ?? local));
      }
    }
    return undefined;
  }

  /** A declaration, under the name that users have for it. */
  #declared(module: Module, node: Node, name: string, words: string, asked: boolean): void {
    const key = `${module.path} ${node.start} ${asked}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    if (node.type === 'FunctionDeclaration') this.#called(module, node, name, words);
    else if (node.type === 'ClassDeclaration') this.#class(module, node, name, words);
    else this.#types(module, node, name, asked);
  }

  #called(module: Module, { params, returnType }: Node, name: string, words: string): void {
    if (!this.callables.some((each) => each.name === name)) this.callables.push({ name, words });
    this.#types(module, params, name, true);
    this.#types(module, returnType, name, false);
  }

  #class(module: Module, node: Node, name: string, words: string): void {
    this.callables.push({ name, words });
    this.#types(module, node.superTypeArguments, name, false);
    for (const member of nodesIn((node.body as Node).body)) {
      const { key, kind, value, accessibility } = member;
      if (!isNode(key) || key.type === 'PrivateIdentifier' || accessibility === 'private') continue;
      const own = `${name}.${nameOf(key)}`;
      if (kind === 'constructor') {
        for (const each of nodesIn((value as Node).params).filter(({ type }) => type === 'TSParameterProperty')) {
          this.#field(module, each, each.parameter as Node, name, false);
        }
      } else if (member.type === 'PropertyDefinition') this.#field(module, member, member, name, false);
      else this.#called(module, value as Node, own, wordsAbove(module, member));
    }
  }

  #field(
    module: Module,
    node: Node,
    { key, name, typeAnnotation, optional }: Node,
    within: string,
    asked: boolean,
  ): void {
    const type = module.text.slice((typeAnnotation as Node | null)?.start, (typeAnnotation as Node | null)?.end);
    this.fields.push({
      at: `${module.path}: ${within}.${typeof name === 'string' ? name : nameOf(key)}`,
      words: wordsAbove(module, node),
      optional: optional === true || /\| undefined$/.test(type),
      number: /^:\s*(?:Record<[\w<>]+, )?number\b/.test(type),
      asked,
    });
    this.#types(module, typeAnnotation, within, asked);
  }

  /** All fields that are named in types, and in the types that these name. */
  #types(module: Module, within: unknown, name: string, asked: boolean): void {
    for (const node of nodesIn(within)) {
      const { type, typeName, expression } = node;
      if (type === 'TSPropertySignature') {
        this.#field(module, node, node, name, asked);
        continue;
      }
      const named = type === 'TSTypeReference' ? typeName : type === 'TSInterfaceHeritage' ? expression : undefined;
      if (isNode(named) && named.type === 'Identifier') {
        const other = nameOf(named);
        const found = this.#own(module, other) ?? this.#imported(module, other);
        if (found !== undefined) this.#declared(found.module, found.node, other, found.words, asked);
      }
      for (const [key, value] of Object.entries(node)) {
        if (key !== 'parent' && typeof value === 'object') this.#types(module, value, name, asked);
      }
    }
  }
}

/** The comment above a node; a remark for the linter may stand between. */
function wordsAbove({ text }: Module, { start }: Node): string {
  const above = text.slice(0, start).replace(/(?:\n *\/\/.*)+\n *$/, '');
  return /\/\*\*(?:[^*]|\*(?!\/))*\*\/\s*$/.exec(above)?.[0] ?? '';
}
