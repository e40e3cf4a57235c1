// The bar that changes the load, where the server has one, and what its clients see: GET and POST /load.

import {loadWords} from "./words.js";

const EVERY = 500;  // ms between two looks

export class Load {
  constructor(url) {
    this.url = url;
    this.bar = document.getElementById("load");
    this.words = document.getElementById("load-words");
    this.clients = document.getElementById("clients");
    this.sleep = document.getElementById("sleep");
    this.keepAlive = document.getElementById("keep-alive");
    this.state = null;  // null: there is none
    this.asked = -Infinity;
    this.changes = 0;
    this.said = null;
    this.bar.addEventListener("submit", (event) => event.preventDefault());
    this.clients.addEventListener("change", () => this.#number(this.clients, "clients", Math.round));
    this.sleep.addEventListener("change", () => this.#number(this.sleep, "sleep_ms", (n) => n));
    this.keepAlive.addEventListener("click", () => this.toggle());
  }

  // Once at the start, and whenever the server has come back.
  async look() {
    const {changes} = this;
    try {
      const answer = await fetch(this.url, {method: "GET"});
      const state = answer.ok ? await answer.json() : null;
      if (changes !== this.changes) return;  // it is older than what has been told since
      if (state) this.#show(state);
      else this.state = null;
      this.bar.hidden = !state;
    } catch {
      // It is away; the page says so.
    }
  }

  // Now and then: what clients see changes, and another page may change the load.
  lookAgain(now) {
    if (!this.state || now - this.asked < EVERY) return;
    this.asked = now;
    this.look();
  }

  // What the clients of a server see, by its name; null if they are not ours.
  seen(name) {
    return this.state?.seen?.[name] ?? null;
  }

  toggle() {
    if (this.state) this.#change({keep_alive: !this.state.keep_alive});
  }

  #number(input, name, round) {
    const value = input.valueAsNumber;
    if (Number.isFinite(value) && input.checkValidity()) this.#change({[name]: round(value)});
    else this.#show(this.state);
  }

  async #change(change) {
    this.changes++;
    try {
      const answer = await fetch(this.url, {method: "POST", headers: {"Content-Type": "application/json"},
                                            body: JSON.stringify(change)});
      if (!answer.ok) throw new Error(`${answer.status} ${(await answer.text()).slice(0, 200)}`);
      this.said = null;
      this.#show(await answer.json());
    } catch (error) {
      this.words.textContent = `The load has not changed: ${error.message}`;
    }
  }

  #show(state) {
    if (!state) return;
    this.state = state;
    const words = loadWords(state);
    if (this.said !== words) this.words.textContent = this.said = words;  // a screen reader says each change
    if (document.activeElement !== this.clients) this.clients.value = state.clients;
    if (document.activeElement !== this.sleep) this.sleep.value = state.sleep_ms;
    this.keepAlive.setAttribute("aria-pressed", String(state.keep_alive));
    this.keepAlive.querySelector("b").textContent = state.keep_alive ? "on" : "off";
  }
}
