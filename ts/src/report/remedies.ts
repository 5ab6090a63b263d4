/** What is to be done about a kind of failure: its stable code in, a sentence for people out. */
import type { ErrorEvent } from '../events.js';

const REMEDIES: Readonly<Record<string, string>> = {
  missing: 'It was named and is not there: look at the name, or at the list or manifest that has it.',
  vanished: 'It was removed while the job was at work. Run it again when nobody works there.',
  changed: 'It was written to while it was read. Run it again when its writer is done.',
  mismatch:
    'Its content is not what it has to be: read it again, look at the device and its log, and restore it from another copy.',
  unreadable: 'It can not be read: look at the device, its log, and the permissions.',
  conflict: 'Something else has its name in the destination. Look which of the two is wanted.',
  collision:
    'Two sources bring this name with other content. Copy them to two places, or say which wins (--on-collision).',
  'not-kept': 'The destination did not keep all of it, so its source stays.',
  unwritable: 'A manifest of this form can not have such a name: take another form (--format jsonl).',
  extra: 'Nothing says that it should be there. Look what made it.',
  damaged: 'The archive is not whole: restore it from another copy; what was packed is still there if it was kept.',
  foreign: 'It can not be read here: give it the memory that it needs (--memory), or take the tool that has made it.',
  encoder: 'It could not be packed; the file stays as it is.',
  'bit-rot': 'Its content changed though nobody wrote to it: look at the device, and restore it from another copy.',
  'behind-mtime': 'Somebody wrote to it and set its time back: look who, and make the manifest anew if it was meant.',
  'payload-missing': 'The patch lacks it: nothing was changed. Make it anew, or look for its other volumes.',
  'payload-damaged': 'What the patch has of it is not what it says: make it anew.',
  'not-applied': 'Somebody else has changed it meanwhile: apply the patch again.',
  kind: 'Something of another kind has its name.',
  'same-file': 'Source and destination are one file.',
  'no-space': 'The destination is full: make room, and run it again. What is there already is not copied again.',
  quota: 'The quota of the destination is used up: have it raised or remove something, and run it again.',
  'read-only': 'The destination is mounted read-only.',
  permission: 'Whoever ran it may not do this: look at owner, mode and ACLs of it and of the directory that holds it.',
  io: 'The device or the server gave an error: look at the log of the kernel before anything else is done with it.',
  'name-too-long': 'The destination takes no names that are so long.',
  metadata: 'The content is there, what belongs to it is not.',
  panic: 'This is a defect of bulkhaul. Report it, with the version.',
  stalled: 'Nothing moved any more: a device or a server hangs. Run it again when it answers.',
  unsupported: 'The file system can not do this.',
};

/** In a sentence. */
export function remedyOf(kind: ErrorEvent['kind']): string {
  return REMEDIES[kind] ?? 'The lines say what was being done, and what came of it.';
}
