/**
 * What the native verbs read their arguments with: clipanion, and typanion (`t`) for values.
 *
 * Only this module imports them: the build makes one file of it, because finding and reading theirs one by one takes as
 * long as starting Node.js.
 */
export { Cli, Command, type CommandClass, Option } from 'clipanion';
export * as t from 'typanion';
