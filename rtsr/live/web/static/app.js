// The page: wires the control socket, the ways and the view to the buttons, and says what happens in sentences.

import { CanvasRecorder, cameraUnfit, openCamera } from "./camera.js";
import { Control } from "./control.js";
import { View } from "./view.js";
import { Mjpeg, Mp4, WebRtc } from "./ways.js";

const $ = (id) => document.getElementById(id);
const WAYS = [WebRtc, Mp4, Mjpeg];
const control = new Control();
const view = new View($("frame"), $("picture"), $("line"), (at) => control.serverTime(at));

let way = null;
let wanted = "auto";
let camera = null; // the visitor's track, while it is shown
let recorder = null;
let run = 0; // counts attempts to show something; an older one that wakes up sees that it is not wanted any more
let stats = null;

// What is said

function say(text, { bad = false, action = null, label = "" } = {}) {
  $("notice").hidden = !text;
  $("notice").classList.toggle("bad", bad);
  $("notice").setAttribute("role", bad ? "alert" : "status");
  $("notice-text").textContent = text;
  $("notice-action").hidden = !action;
  $("notice-action").textContent = label;
  $("notice-action").onclick = action;
}

function sayBad(text, action, label) { say(text, { bad: true, action, label }); }

const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".") : "");

// What is shown

function silence() {
  way?.stop();
  way = null;
  view.reset();
}

/** Start the wanted way, or one after the other until one works. */
async function watch() {
  const mine = ++run;
  silence();
  say("Connecting …");
  const reasons = [];
  const chosen = wanted === "auto" ? WAYS : WAYS.filter((one) => one.id === wanted);
  for (const Kind of chosen) {
    const unfit = Kind.unfit(control);
    if (unfit) {
      reasons.push(`${Kind.label}: ${unfit}`);
      continue;
    }
    const error = await begin(new Kind(control), mine);
    if (mine !== run) return;
    if (!error) {
      const why = reasons.length ? `${reasons.map(sentence).join(" ")} So it is ${Kind.label}: ${Kind.good}.`
        : `${Kind.label}: ${Kind.good}.`;
      $("way-why").textContent = why;
      say("");
      return;
    }
    reasons.push(`${Kind.label}: ${error.message}`);
  }
  $("way-why").textContent = "";
  sayBad(`No picture. ${reasons.map(sentence).join(" ")}`, watch, "Try again");
}

/** Start a way; null once its first picture is there, else the error. */
async function begin(next, mine) {
  way = next;
  next.onpicture = (...picture) => view.show(...picture);
  try {
    await next.start(() => stats !== null && !camera && stats.fps_out === 0);
  } catch (error) {
    next.stop();
    return error;
  }
  if (mine !== run) return null;
  sendSplit();
  next.onlost = (reason) => {
    if (next !== way || !control.open) return; // a lost connection is said by the control socket
    next.stop();
    sayBad(`${sentence(reason)} Trying again …`);
    setTimeout(() => next === way && (camera ? watchCamera() : watch()), 1000);
  };
  return null;
}

async function watchCamera() {
  if (!control.hello) return say("Connecting …");
  const unfit = cameraUnfit(control.hello);
  if (unfit) return sayBad(sentence(unfit));
  const mine = ++run;
  silence();
  say("Opening the camera …");
  try {
    camera?.stop();
    const track = await openCamera($("camera-size").value);
    if (mine !== run) return track.stop();
    camera = track;
  } catch (error) {
    showSession();
    return sayBad(error.message, showCamera, "Try again");
  }
  modeChanged();
  camera.onended = () => {
    showSession();
    sayBad("The camera was taken away.", showCamera, "Try again");
  };
  const error = await begin(new WebRtc(control, camera, $("tier").value || stats?.tier), mine);
  if (mine !== run) return;
  if (error) {
    showSession();
    return sayBad(`Your camera could not be upscaled: ${error.message}.`, showCamera, "Try again");
  }
  $("way-why").textContent = "Your camera goes to the machine that runs rtsr and comes back; nothing is stored there.";
  say("");
}

function showCamera() { return watchCamera(); }

function showSession() {
  camera?.stop();
  camera = null;
  modeChanged();
  return watch();
}

function modeChanged() {
  const mine = camera !== null;
  press("show-session", !mine);
  press("show-camera", mine);
  $("camera-size-field").hidden = !mine;
  $("way").disabled = mine;
  fillTiers(mine ? control.hello.camera_tiers : stats?.tiers ?? [], !mine);
  if (recorder) stopCameraRecording();
}

const press = (id, on) => $(id).setAttribute("aria-pressed", String(on));
const sendSplit = () => control.say({ type: "split", on: view.split });

function fillTiers(tiers, automatic) {
  const select = $("tier");
  const names = [...(automatic ? [""] : []), ...tiers];
  if (names.join() === select.dataset.names) return;
  const kept = select.value;
  select.dataset.names = names.join();
  select.replaceChildren(...names.map((name) => new Option(name || "Automatic", name)));
  select.value = names.includes(kept) ? kept : names.includes(stats?.tier) && !automatic ? stats.tier : names[0];
}

// What is measured

let turnedAt = -Infinity; // the dial, by hand

const ms = (value) => (value === null || value === undefined ? "–" : `${value < 10 ? value.toFixed(1) : Math.round(value)}`);
const fps = (value) => value.toFixed(1);

function showStats(now) {
  stats = now;
  const mine = camera && now.camera;
  const [glass, worst] = [view.latency.quantile(0.5), view.latency.quantile(0.95)];
  // What comes from a visitor's camera is stamped when it arrives; the way up is taken for half of there and back.
  const up = mine ? (control.roundTrip ?? 0) / 2 : 0;
  $("headline-latency").textContent = glass === null ? "–" : ms(glass + up);
  $("stat-glass").textContent = glass === null ? "–" : `${ms(glass + up)} ms, p95 ${ms(worst + up)}`;
  $("stat-shown").textContent = `${fps(view.shown.count / 3)} fps`;
  const { tier, input_size: input, output_size: output } = mine || now;
  const detail = mine ? null : now.detail;
  $("stat-tier").textContent = detail ? `${tier}, detail ${detail}` : tier;
  $("stat-size").textContent = `${input.join("×")} → ${output.join("×")}`;
  if (mine) {
    $("stat-fps").textContent = `${fps(mine.fps_out)} out`;
    $("stat-latency").textContent = `${ms(mine.upscale_p50_ms)} ms`;
    $("stat-dropped").textContent = mine.dropped;
  } else {
    const target = now.target_fps ? `, target ${Math.round(now.target_fps)}` : "";
    $("stat-fps").textContent = `${fps(now.fps_in)} in, ${fps(now.fps_out)} out${target}`;
    $("stat-backend").textContent = now.backend;
    $("stat-latency").textContent = `${ms(now.latency_p50_ms)} ms, p95 ${ms(now.latency_p95_ms)}`;
    const dropped = Object.entries(now.dropped).filter(([, count]) => count);
    $("stat-dropped").textContent = dropped.map(([cause, count]) => `${count} ${cause}`).join(", ") || "none";
    press("record", now.recording !== null);
    $("record").lastElementChild.textContent = now.recording !== null ? "Stop" : "Record";
    fillTiers(now.tiers, true);
  }
  const why = mine ? "your own camera is upscaled by the faithful end" : now.no_detail;
  $("detail").disabled = detail === null;
  $("detail-field").title = $("detail-why").textContent = detail === null ? `Detail: ${why}` : "";
  // What is being turned shows what is asked for; later what came of it, also of what others ask for.
  if (detail !== null && performance.now() - turnedAt > 2000) $("detail").value = detail * 100;
}

// What the buttons do

const DO = {
  split() {
    view.setSplit(!view.split);
    press("split", view.split);
    sendSplit();
  },
  lens() {
    view.setLens(!view.lens);
    press("lens", view.lens);
  },
  async snapshot() {
    const { files } = await control.ask({ type: "snapshot" }, "snapshot");
    offerFiles(files);
    for (const file of files) save(file);
  },
  async record() {
    if (recorder) return stopCameraRecording();
    if (camera) {
      recorder = new CanvasRecorder($("picture"));
      press("record", true);
      $("record").lastElementChild.textContent = "Stop";
      return;
    }
    const on = $("record").getAttribute("aria-pressed") !== "true";
    const answer = await control.ask({ type: "record", on }, "recording");
    if (answer.url) offerFiles([answer]);
    else if (answer.name) say(on ? `Recording into ${answer.name}.` : `Recorded ${answer.name}.`, {});
    setTimeout(() => $("notice-text").textContent.startsWith("Record") && say(""), 4000);
  },
  async full() {
    if (document.fullscreenElement) await document.exitFullscreen();
    else if ($("stage").requestFullscreen) await $("stage").requestFullscreen();
    else throw new Error("This browser has no full screen for pages.");
  },
  "show-camera": () => camera || showCamera(),
  "show-session": () => camera && showSession(),
  end() {
    if (confirm("End the session for everybody who watches?")) control.say({ type: "quit" });
  },
};

async function stopCameraRecording() {
  const file = await recorder.stop();
  recorder = null;
  press("record", false);
  $("record").lastElementChild.textContent = "Record";
  offerFiles([file]);
  save(file);
}

function offerFiles(files) {
  const links = files.map(({ name, url }) => Object.assign(document.createElement("a"),
    { href: url, download: name, textContent: `Save ${name}` }));
  $("downloads").replaceChildren(...links);
}

function save({ name, url }) {
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
}

async function perform(id) {
  try {
    await DO[id]();
  } catch (error) {
    sayBad(sentence(error.message), () => say(""), "Close");
  }
}

for (const id of Object.keys(DO)) $(id).addEventListener("click", () => perform(id));
$("tier").addEventListener("change", ({ target }) => control.say({ type: "tier", tier: target.value || null }));
$("detail").addEventListener("input", ({ target }) => {
  turnedAt = performance.now();
  control.say({ type: "detail", amount: target.value / 100 });
});
$("way").addEventListener("change", ({ target }) => {
  wanted = target.value;
  if (control.hello) watch();
});
$("camera-size").addEventListener("change", () => camera && showCamera());
document.addEventListener("fullscreenchange", () => {
  press("full", !!document.fullscreenElement);
  view.fit();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
  const id = { s: "split", l: "lens", p: "snapshot", r: "record", f: "full", c: camera ? "show-session" : "show-camera" }[
    event.key.toLowerCase()];
  if (id) perform(id);
  else if (event.key.toLowerCase() === "t") nextTier();
  else if (/^Arrow(Left|Right)$/.test(event.key) && event.target === document.body && view.split) {
    view.setLine(view.at + (event.key === "ArrowLeft" ? -0.02 : 0.02));
  } else return;
  event.preventDefault();
});

function nextTier() {
  const select = $("tier");
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
}

// What the server says

control.addEventListener("hello", () => {
  const unfit = cameraUnfit(control.hello);
  $("show-camera").title = unfit ? sentence(unfit) : "";
  if (camera) showCamera();
  else watch();
});
control.addEventListener("stats", ({ detail }) => showStats(detail));
control.addEventListener("error", ({ detail }) => {
  if (detail.about === "camera") {
    showSession();
    sayBad(sentence(detail.text), showCamera, "Try again");
  } else if (!["offer", "snapshot", "record"].includes(detail.about)) sayBad(sentence(detail.text), () => say(""), "Close");
});
control.addEventListener("lost", ({ detail }) => {
  run++;
  silence();
  sayBad(`The connection was lost; trying again in ${detail.seconds} s.`, () => control.connect(), "Try now");
});
control.addEventListener("over", ({ detail }) => {
  run++;
  silence();
  camera?.stop();
  for (const one of document.querySelectorAll("button, select, input")) one.disabled = true;
  sayBad(detail.text);
});

view.setSplit(true);
view.setLine(0.5);
Object.assign(window, { rtsr: { control, view, camera: () => camera } }); // for tests, and for the curious
say("Connecting …");
control.connect();
