// The seam between strategy.js and the contract (wit/orion.wit).
//
// It exports the two functions of the contract, and makes an exception readable: its message and stack go to the host's
// log, and the message becomes the reason that the caller sees. There is rarely a reason to edit this file.

import { write } from 'orion:search/log@0.1.0';
import * as strategy from './strategy.js';

/** Logs an exception with its stack; returns its message and where it was thrown. */
function report(exception) {
  // The frames below this file are the tool chain's own.
  const isOurs = (line) => line.trim() !== '' && !/initializer\.js|orion_shell\.js/.test(line);
  const stack = String(exception?.stack ?? '').split('\n').filter(isOurs);
  write('error', [String(exception), ...stack.map((frame) => `  at ${frame}`)].join('\n'));
  const place = stack.length === 0 ? '' : ` (${stack[0]})`;
  return `${exception}${place}`;
}

export function describe() {
  try {
    return strategy.describe();
  } catch (exception) {
    report(exception);
    throw exception;
  }
}

export function search(request) {
  try {
    return strategy.search(request);
  } catch (exception) {
    // An error of the contract, thrown by a call or by the strategy: the caller understands it as it is.
    const error = exception?.payload ?? exception;
    if (typeof error?.tag === 'string') throw error;
    throw { tag: 'other', val: ['exception', report(exception)] };
  }
}
