// The control socket: requests, figures, and the server's clock. Comes back by itself when the connection is lost.

const BACK_OFF_S = [0.5, 1, 2, 4, 8];

export class Control extends EventTarget {
  constructor() {
    super();
    this.open = false;
    this.over = false;
    this.hello = null;
    this.roundTrip = null;
    this.tries = 0;
    this.pings = new Map();
    this.samples = [];
    this.number = 0;
  }

  connect() {
    clearTimeout(this.timer);
    const address = new URL("control", location.href);
    address.protocol = "ws:";
    const socket = this.socket = new WebSocket(address);
    socket.onmessage = (event) => this.heard(JSON.parse(event.data));
    socket.onclose = () => {
      if (socket !== this.socket) return;
      clearInterval(this.pinging);
      this.open = false;
      if (this.over || this.refused) return;
      const seconds = BACK_OFF_S[Math.min(this.tries++, BACK_OFF_S.length - 1)];
      this.timer = setTimeout(() => this.connect(), seconds * 1000);
      this.tell("lost", { seconds });
    };
  }

  say(message) {
    if (this.open) this.socket.send(JSON.stringify(message));
    return this.open;
  }

  /** Say something and wait for the answer of this type; an error about it throws. */
  ask(message, type, seconds = 15) {
    return new Promise((resolve, reject) => {
      const done = (how, what) => {
        clearTimeout(timer);
        for (const name of [type, "error", "lost"]) this.removeEventListener(name, hears);
        how(what);
      };
      const hears = ({ type: name, detail }) => {
        if (name === type && (message.id === undefined || detail.id === message.id)) done(resolve, detail);
        else if (name === "error" && detail.about === message.type) done(reject, new Error(detail.text));
        else if (name === "lost") done(reject, new Error("The connection was lost."));
      };
      const timer = setTimeout(() => done(reject, new Error("The server did not answer.")), seconds * 1000);
      for (const name of [type, "error", "lost"]) this.addEventListener(name, hears);
      if (!this.say(message)) done(reject, new Error("There is no connection."));
    });
  }

  nextId() { return ++this.number; }

  /** Milliseconds on the server's clock at a moment of performance.now(); null before the first answer to a ping. */
  serverTime(at = performance.now()) { return this.offset === undefined ? null : at + this.offset; }

  heard(message) {
    if (message.type === "hello") {
      [this.open, this.tries, this.hello] = [true, 0, message];
      this.samples = [];
      this.ping(4);
      this.pinging = setInterval(() => this.ping(), 2000);
    } else if (message.type === "pong") {
      this.ponged(message);
    } else if (message.type === "over") {
      this.over = true;
    } else if (message.type === "error" && message.about === "page") {
      this.refused = true;
    }
    this.tell(message.type, message);
  }

  ping(more = 0) {
    const id = this.nextId();
    this.pings.set(id, [performance.now(), more]);
    this.say({ type: "ping", id });
  }

  ponged({ id, now }) {
    const [sent, more] = this.pings.get(id) ?? [];
    if (sent === undefined) return;
    this.pings.delete(id);
    const got = performance.now();
    this.samples.push({ trip: got - sent, offset: now - (sent + got) / 2 });
    if (this.samples.length > 20) this.samples.shift();
    // The shortest way there and back leaves the least room for being wrong about the middle.
    const best = this.samples.reduce((a, b) => (b.trip < a.trip ? b : a));
    [this.offset, this.roundTrip] = [best.offset, best.trip];
    if (more) this.ping(more - 1);
  }

  tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }
}
