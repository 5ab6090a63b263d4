/** What a log file is written with. Only this module imports it: the build makes one file of it, so nothing else is installed. */
export { type Logger, pino } from 'pino';
