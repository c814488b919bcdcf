// Three ways for the pictures. Each has start(), which resolves with the first picture, and stop();
// onpicture(picture, width, height, shownAt, rtp) comes for each picture, onlost(reason) when no more come.

const FIRST_PICTURE_S = 8;
const video = document.getElementById("video");

class Way {
  onpicture = () => {};
  onlost = () => {};

  /** Resolves with the first picture. isSilent(): whether nobody gets any now, so that waiting proves nothing. */
  async start(isSilent) {
    let timer;
    const first = new Promise((resolve, reject) => {
      this.arrived = resolve;
      this.failed = reject;
      let left = FIRST_PICTURE_S;
      timer = setInterval(() => {
        if (!isSilent() && !document.hidden && --left <= 0) reject(new Error(`no picture came in ${FIRST_PICTURE_S} s`));
      }, 1000);
    });
    first.catch(() => {});
    try {
      await this.open();
      await first;
    } finally {
      clearInterval(timer);
    }
  }

  picture(source, width, height, at, rtp) {
    if (this.stopped || !width) return;
    this.arrived();
    this.onpicture(source, width, height, at, rtp);
  }

  lose(reason) {
    if (this.stopped) return;
    this.failed(new Error(reason));
    this.onlost(reason);
  }

  /** Call picture() for each frame that the video element shows. */
  watchVideo() {
    if (video.requestVideoFrameCallback) {
      const next = (now, about) => {
        if (this.stopped) return;
        this.picture(video, video.videoWidth, video.videoHeight, about.expectedDisplayTime, about.rtpTimestamp);
        this.callback = video.requestVideoFrameCallback(next);
      };
      this.callback = video.requestVideoFrameCallback(next);
      return;
    }
    let last = -1;
    const look = () => {
      if (this.stopped) return;
      if (video.currentTime !== last) this.picture(video, video.videoWidth, video.videoHeight, performance.now());
      last = video.currentTime;
      requestAnimationFrame(look);
    };
    look();
  }

  leaveVideo() {
    if (this.callback !== undefined) video.cancelVideoFrameCallback(this.callback);
    video.srcObject = null;
    video.removeAttribute("src");
    video.load();
  }

  /** Only once: the video element may be another way's by the second time. */
  stop() {
    if (this.stopped) return;
    this.stopped = true;
    this.failed?.(new Error("it was stopped"));
    this.end();
  }
}

/** control: for the offer; camera: a MediaStreamTrack to send up, if any; tier: for it. */
export class WebRtc extends Way {
  static id = "webrtc";
  static label = "WebRTC";
  static good = "the lowest delay";

  static unfit(control) {
    if (!window.RTCPeerConnection) return "this browser has no WebRTC";
    return control.hello.webrtc;
  }

  constructor(control, camera = null, tier = null) {
    super();
    Object.assign(this, { control, camera, tier });
  }

  async open() {
    const pc = this.pc = new RTCPeerConnection();
    const receiver = pc.addTransceiver("video", { direction: "recvonly" }).receiver;
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
    if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = 0;
    pc.ontrack = ({ track }) => {
      video.srcObject = new MediaStream([track]);
      video.play().catch(() => {});
      this.watchVideo();
    };
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === "failed") this.lose("WebRTC found no way to this machine");
      if (pc.connectionState === "closed") this.lose("WebRTC was closed");
    };
    if (this.camera) await this.sendCamera(pc);
    await pc.setLocalDescription(await pc.createOffer());
    await gathered(pc);
    const id = this.control.nextId();
    const offer = { type: "offer", id, sdp: pc.localDescription.sdp, camera: !!this.camera, tier: this.tier };
    const answer = await this.control.ask(offer, "answer");
    if (!this.stopped) await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
  }

  async sendCamera(pc) {
    const { sender } = pc.addTransceiver(this.camera, { direction: "sendonly" });
    const parameters = sender.getParameters();
    // A browser that is short of bandwidth sends fewer pixels; they are what is upscaled, so rather fewer frames.
    parameters.degradationPreference = "maintain-resolution";
    for (const encoding of parameters.encodings ?? []) encoding.maxBitrate = 4_000_000;
    await sender.setParameters(parameters).catch(() => {});
  }

  end() {
    this.pc?.close();
    this.leaveVideo();
    this.control.say({ type: "hangup" });
  }
}

/** Candidates travel inside the offer; there is no server to ask for more, so they are all there at once. */
function gathered(pc) {
  return new Promise((resolve) => {
    const look = () => pc.iceGatheringState === "complete" && resolve();
    pc.onicegatheringstatechange = look;
    setTimeout(resolve, 1500);
    look();
  });
}

/** Fragmented MP4 over a WebSocket into Media Source Extensions. */
export class Mp4 extends Way {
  static id = "mp4";
  static label = "MP4";
  static good = "full quality, a little more delay";
  static source = self.ManagedMediaSource ?? self.MediaSource;

  static unfit() { return Mp4.source ? null : "this browser has no Media Source Extensions"; }

  async open() {
    this.waiting = [];
    this.newest = null;
    const media = this.media = new Mp4.source();
    video.disableRemotePlayback = true; // Safari's condition for ManagedMediaSource
    this.address = URL.createObjectURL(media);
    video.src = this.address;
    await new Promise((resolve) => media.addEventListener("sourceopen", resolve, { once: true }));
    if (this.stopped) return;
    this.watchVideo();
    video.play().catch(() => {});
    const address = new URL("mp4", location.href);
    address.protocol = "ws:";
    const socket = this.socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.begin(JSON.parse(data)) : this.append(data));
    socket.onclose = ({ reason }) => this.lose(reason || "the stream ended");
    video.onerror = () => this.lose(`the browser cannot play it (${video.error?.message || "no reason told"})`);
    this.steering = setInterval(() => this.steer(), 100);
  }

  begin({ codec }) {
    const type = `video/mp4; codecs="${codec}"`;
    if (!Mp4.source.isTypeSupported(type)) return this.lose(`this browser does not play ${codec}`);
    if (this.buffer) return; // a header of the same codec may come at any time
    this.buffer = this.media.addSourceBuffer(type);
    this.buffer.addEventListener("updateend", () => this.feed());
  }

  append(data) {
    const time = decodeTime(data);
    if (time !== null) this.newest = time;
    this.waiting.push(data);
    this.feed();
  }

  feed() {
    const { buffer } = this;
    if (this.stopped || !buffer || buffer.updating || this.media.readyState !== "open") return;
    try {
      if (this.trim) {
        this.trim = false;
        const { buffered } = buffer;
        if (buffered.length && video.currentTime - buffered.start(0) > 12) return buffer.remove(0, video.currentTime - 6);
      }
      if (this.waiting.length) buffer.appendBuffer(joined(this.waiting.splice(0)));
    } catch (error) {
      this.lose(`the browser cannot play it (${error.message})`);
    }
  }

  /** Stay at the newest picture: by speed where that is enough, by a jump where it is not. */
  steer() {
    if (this.newest === null || !this.buffer || video.readyState < 1) return;
    const behind = this.newest - video.currentTime;
    if (behind > 0.7 || behind < -0.3) video.currentTime = Math.max(this.newest - 0.03, 0);
    else video.playbackRate = behind > 0.12 ? 1.15 : behind > 0.06 ? 1.05 : behind < 0.015 ? 0.95 : 1;
    if (video.paused) video.play().catch(() => {});
    this.trim = true;
  }

  end() {
    clearInterval(this.steering);
    if (this.socket) this.socket.onclose = null;
    this.socket?.close();
    video.onerror = null;
    video.playbackRate = 1;
    this.leaveVideo();
    if (this.address) URL.revokeObjectURL(this.address);
  }
}

/** Seconds of the fragment's tfdt box (version 1, 90 kHz); null for the header, which has none. */
function decodeTime(data) {
  const bytes = new Uint8Array(data, 0, Math.min(data.byteLength, 120));
  for (let i = 4; i + 16 <= bytes.length; i++) {
    if (bytes[i] === 0x74 && bytes[i + 1] === 0x66 && bytes[i + 2] === 0x64 && bytes[i + 3] === 0x74) {
      return Number(new DataView(data).getBigUint64(i + 8)) / 90000;
    }
  }
  return null;
}

function joined(buffers) {
  const all = new Uint8Array(buffers.reduce((sum, one) => sum + one.byteLength, 0));
  let at = 0;
  for (const one of buffers) {
    all.set(new Uint8Array(one), at);
    at += one.byteLength;
  }
  return all;
}

/** JPEGs, one after the other in one response. */
export class Mjpeg extends Way {
  static id = "mjpeg";
  static label = "MJPEG";
  static good = "plays everywhere, needs the most bandwidth";

  static unfit() { return null; }

  async open() {
    this.ending = new AbortController();
    const response = await fetch("mjpeg?split", { signal: this.ending.signal });
    if (!response.ok) throw new Error((await response.text()).trim());
    this.read(response.body.getReader()).catch((error) => this.lose(error.message));
  }

  async read(reader) {
    const text = new TextDecoder();
    let bytes = new Uint8Array(0), newest = null, drawing = false;
    const draw = async () => {
      drawing = true;
      while (newest && !this.stopped) {
        const blob = new Blob([newest], { type: "image/jpeg" });
        newest = null; // what comes while this one is decoded replaces what waits
        const bitmap = await createImageBitmap(blob);
        this.picture(bitmap, bitmap.width, bitmap.height, performance.now());
        this.last?.close();
        this.last = bitmap;
      }
      drawing = false;
    };
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return this.lose("the stream ended");
      bytes = bytes.length ? joined([bytes, value]) : value;
      for (;;) {
        const head = text.decode(bytes.subarray(0, 256));
        const end = head.indexOf("\r\n\r\n");
        const length = Number(/Content-Length: (\d+)/i.exec(head)?.[1]);
        if (end < 0 || bytes.length < end + 4 + length + 2) break;
        newest = bytes.slice(end + 4, end + 4 + length);
        bytes = bytes.slice(end + 4 + length + 2);
      }
      if (!drawing) draw().catch((error) => this.lose(error.message));
    }
  }

  end() {
    this.ending?.abort();
  }
}
