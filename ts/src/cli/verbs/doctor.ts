/** `bulkhaul doctor`: what this machine and some places allow, on stdout. */
import { diagnose } from '../../ops/doctor.js';
import { ExitCode } from '../../verdict.js';
import { answer } from '../answer.js';
import { BareCommand } from '../base.js';
import { flag, operands } from '../options.js';
import { Command } from '../parser.js';
import { version } from '../version.js';

export class DoctorCommand extends BareCommand {
  static override paths = [['doctor']];
  static override readonly idle = { '--state-dir': 'it looks at no job' };
  static override usage = Command.Usage({
    description: 'Tell what this machine allows and what is missing',
    details: `
      Tells what a report of a defect needs: system, kernel, Node.js, limits, capabilities, calls of the kernel, programs of
      others, and of each PATH its file system: kind, flags, room, what it keeps. It names no host, no user and no variable,
      and changes nothing.

      With --probe it also tries in each PATH what can be done there, and how fast: it writes 64 MiB into a file that has no
      name any more, so nothing stays.

      Exit codes: 0, 2 the engine can't be loaded, a PATH can't be looked at, standard output can't be written, or usage.
    `,
    examples: [
      ['For a report', '$0 doctor /scratch /archive > doctor.txt'],
      ['What can be done on a file system, and how fast', '$0 doctor --probe /archive'],
      ['For a program to read', '$0 doctor --json'],
    ],
  });

  probe = flag('--probe', {
    group: 'how',
    help: 'Try in each PATH what can be done there, and how fast: 64 MiB are written, synced and read',
  });
  override json = flag('--json', { group: 'output', help: 'Print one JSON object on standard output' });
  operands = operands('[PATH...]', 0);

  async execute(): Promise<number> {
    const found = await diagnose(this.operands, this.probe);
    const { stdout } = this.context;
    if (this.json) {
      const { jsonLine } = await import('../../report/json.js');
      await answer(stdout, jsonLine({ type: 'doctor', version: version(), ...found }));
    } else {
      const { doctorText } = await import('../../report/doctor.js');
      await answer(stdout, doctorText(found, version()));
    }
    const failed = found.engineError !== undefined || found.places.some(({ error, probeError }) => error ?? probeError);
    return failed ? ExitCode.usage : ExitCode.complete;
  }
}
