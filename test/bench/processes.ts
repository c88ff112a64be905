import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const HERE = import.meta.dirname;
/** Clock ticks a second in /proc (getconf CLK_TCK is 100 on Linux). */
const TICKS = 100;

/** A script of this folder as a process of its own. */
export class Script {
  private constructor(
    private readonly child: ChildProcess,
    private readonly lines: AsyncIterator<string>,
  ) {}

  static start(name: string, args: readonly string[]): Script {
    const child = spawn(process.execPath, [join(HERE, `${name}.js`), ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    if (!child.stdout) throw new Error('no output');
    return new Script(child, createInterface({ input: child.stdout })[Symbol.asyncIterator]());
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Writes a line to its standard input. */
  say(line: string): void {
    this.child.stdin?.write(`${line}\n`);
  }

  /** The next line it prints. @throws when it ends before. */
  async line(): Promise<string> {
    const next = await this.lines.next();
    if (next.done)
      throw new Error(`a process of the benchmark ended early (${this.child.exitCode ?? 'signal'})`);
    return next.value;
  }

  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await exited;
  }
}

/** The server process of a PostgreSQL data folder: the first line of its postmaster.pid. */
export function postmasterPid(dataFolder: string): number {
  return Number(readFileSync(join(dataFolder, 'postmaster.pid'), 'utf8').split('\n')[0]);
}

/** Processor time a process and its children have used, in seconds. Linux; elsewhere 0. */
export function cpuSeconds(pid: number): number {
  let ticks = 0;
  for (const entry of processes()) {
    if (entry.pid === pid) ticks += entry.ticks + entry.childTicks;
    else if (entry.parent === pid) ticks += entry.ticks;
  }
  return ticks / TICKS;
}

/** The most memory a process has had resident, in bytes. Linux; elsewhere 0. */
export function peakMemory(pid: number): number {
  try {
    const [, kilobytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return Number(kilobytes ?? 0) * 1_024;
  } catch {
    return 0;
  }
}

function* processes(): Generator<{ pid: number; parent: number; ticks: number; childTicks: number }> {
  let names: string[];
  try {
    names = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return;
  }
  for (const name of names) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      // Behind the command's closing parenthesis: proc(5), fields 3 (state) and on.
      const fields = stat
        .slice(stat.lastIndexOf(')') + 2)
        .split(' ')
        .map(Number);
      const at = (field: number): number => fields[field - 3] ?? 0;
      yield { pid: Number(name), parent: at(4), ticks: at(14) + at(15), childTicks: at(16) + at(17) };
    } catch {
      // It has ended meanwhile.
    }
  }
}
