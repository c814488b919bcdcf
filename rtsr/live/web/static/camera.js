// The visitor's own camera: asked for, and every way of not getting it said in a sentence.

const WHY = {
  NotAllowedError: "The browser did not give this page the camera. Allow it beside the address, then try again.",
  NotFoundError: "This device has no camera that the browser can see.",
  NotReadableError: "The camera is there but cannot be opened; another program may be using it.",
  OverconstrainedError: "The camera has no such size.",
  AbortError: "The camera stopped while it was being opened.",
};

/** Why a camera cannot be asked for here at all; null if it can. */
export function cameraUnfit(hello) {
  if (!isSecureContext) {
    return "Browsers give a page the camera only over https or on the machine itself (localhost). Open this page there.";
  }
  if (!navigator.mediaDevices?.getUserMedia) return "This browser gives pages no camera.";
  if (!window.RTCPeerConnection) return "This browser has no WebRTC, which carries the camera.";
  if (!hello.camera_tiers.length) return `No engine for ×${hello.scale} is installed for cameras.`;
  return hello.webrtc;
}

/** The camera's video track, at the size given as "WxH" or the nearest it has. Throws an Error that people can read. */
export async function openCamera(size) {
  const [width, height] = size.split("x").map(Number);
  try {
    const video = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 }, facingMode: "user" };
    const stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    const [track] = stream.getVideoTracks();
    track.contentHint = "detail";
    return track;
  } catch (error) {
    throw new Error(WHY[error.name] ?? `The camera could not be opened (${error.message}).`);
  }
}

/** Records what a canvas shows; stop() resolves with {name, url} of a file to save. */
export class CanvasRecorder {
  constructor(canvas) {
    const type = ["video/mp4", "video/webm"].find((one) => window.MediaRecorder?.isTypeSupported(one));
    if (!type) throw new Error("This browser cannot record.");
    this.parts = [];
    this.recorder = new MediaRecorder(canvas.captureStream(), { mimeType: type, videoBitsPerSecond: 12_000_000 });
    this.recorder.ondataavailable = ({ data }) => this.parts.push(data);
    this.recorder.start(1000);
  }

  stop() {
    return new Promise((resolve) => {
      this.recorder.onstop = () => {
        const type = this.recorder.mimeType;
        const name = `rtsr-camera.${type.includes("mp4") ? "mp4" : "webm"}`;
        resolve({ name, url: URL.createObjectURL(new Blob(this.parts, { type })) });
      };
      this.recorder.stop();
    });
  }
}
