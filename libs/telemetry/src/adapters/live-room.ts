import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Config } from '#platform';
import { TokenSeats } from './token-seats.js';

/** Room for those who watch the stream, over WebSocket and HTTP together: so many in all, and so many with each token. */
@Injectable()
export class LiveRoom {
  private readonly seats: TokenSeats;
  private readonly maxClients: number;
  private present = 0;

  constructor({ webSocket }: Config) {
    this.seats = new TokenSeats(webSocket.maxClientsPerToken);
    this.maxClients = webSocket.maxClients;
  }

  /** @returns whether there was room for one more; whoever has come in has to {@link leave}. */
  enter(): boolean {
    if (this.present >= this.maxClients) return false;
    this.present += 1;
    return true;
  }

  /** One of those who have come in is gone. */
  leave(): void {
    this.present -= 1;
  }

  /** @returns the seat, to be given back to {@link stand}; null: there is none left for this token. */
  sit(token: string): string | null {
    const seat = seatOf(token);
    return this.seats.take(seat) ? seat : null;
  }

  /** @param seat undefined: none was taken. */
  stand(seat: string | undefined): void {
    this.seats.leave(seat);
  }
}

/** What a token is known by, without keeping it. */
export function seatOf(token: string): string {
  return createHash('sha256').update(token).digest('base64');
}
