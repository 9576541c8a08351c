/** Readers together, a writer alone: bytes of an mbox must not move under somebody who reads them. */
export class Turns {
  #readers = 0;
  #writing = false;
  #waiting: { readonly writer: boolean; readonly start: () => void }[] = [];

  async shared<T>(work: () => Promise<T>): Promise<T> {
    if (this.#writing || this.#waiting.length > 0) await this.#wait(false);
    else this.#readers++;
    try {
      return await work();
    } finally {
      this.#readers--;
      this.#next();
    }
  }

  async alone<T>(work: () => Promise<T>): Promise<T> {
    if (this.#writing || this.#readers > 0 || this.#waiting.length > 0) await this.#wait(true);
    else this.#writing = true;
    try {
      return await work();
    } finally {
      this.#writing = false;
      this.#next();
    }
  }

  #wait(writer: boolean): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ writer, start: resolve }));
  }

  #next(): void {
    for (let first = this.#waiting[0]; first && !this.#writing; first = this.#waiting[0]) {
      if (first.writer && this.#readers > 0) return;
      this.#waiting.shift();
      if (first.writer) this.#writing = true;
      else this.#readers++;
      first.start();
    }
  }
}
