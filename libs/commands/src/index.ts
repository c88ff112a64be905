export { CommandRow } from './adapters/command.row.js';
export { CommandsModule } from './commands.module.js';
