// Sends drawings, files and photos to the server, and shows its answers. What a server, a file or
// a class is called is only ever set as text.
"use strict";

const byId = (id) => document.getElementById(id);
const maxBytes = Number(document.body.dataset.maxBytes);

// The answer

let request = new AbortController();

async function classify(image) {
  request.abort(); // only the newest image is of interest
  request = new AbortController();
  const { signal } = request;
  byId("answer").ariaBusy = "true";
  try {
    const answer = await send(image, signal);
    showAnswer(answer);
  } catch (error) {
    if (signal.aborted) return;
    showError(error.message);
  }
  byId("answer").ariaBusy = "false";
}

async function send(image, signal) {
  if (image.size > maxBytes) {
    throw new Error(`The file has more than ${maxBytes >> 20} MiB: scale the image down.`);
  }
  const headers = { "Content-Type": "application/octet-stream" };
  let response;
  try {
    response = await fetch("classify", { method: "POST", headers, body: image, signal });
  } catch {
    throw new Error("The server does not answer. Is imgcls demo still running?");
  }
  const isJson = response.headers.get("Content-Type") === "application/json";
  if (!isJson) {
    throw new Error(`The server refused the image, with status ${response.status}. Try again.`);
  }
  const answer = await response.json();
  if (answer.error) throw new Error(answer.error);
  return answer;
}

function showOnly(id) {
  for (const other of ["empty", "error", "result"]) byId(other).hidden = other !== id;
}

function showError(message) {
  byId("error").textContent = message;
  showOnly("error");
}

function showEmpty() {
  request.abort();
  byId("answer").ariaBusy = "false";
  showOnly("empty");
}

function showAnswer(answer) {
  const [first] = answer.classes;
  byId("class").textContent = first.name;
  byId("confidence").textContent = first.text;
  byId("spoken").textContent = `${first.name}, ${first.text}. ${answer.flag}`;
  byId("flag").textContent = answer.flag;
  byId("flag").hidden = !answer.flag;
  byId("classes").replaceChildren(...answer.classes.map(classRow));
  showPicture(byId("seen"), answer.seen);
  byId("inverted").hidden = !answer.inverted;
  byId("map-figure").hidden = !answer.map;
  if (answer.map) showPicture(byId("map"), answer.map);
  byId("map-class").textContent = first.name;
  showOnly("result");
}

function classRow({ name, share, text }) {
  const row = document.createElement("li");
  const fill = element("span", "fill", "");
  fill.style.setProperty("--share", `${100 * share}%`);
  const track = element("span", "track", "");
  track.append(fill);
  row.append(element("span", "name", name), track, element("span", "share", text));
  return row;
}

function element(tag, className, text) {
  const created = document.createElement(tag);
  created.className = className;
  created.textContent = text;
  return created;
}

function showPicture(image, source) {
  // Small images show their pixels; photos are smoothed.
  image.onload = () => image.classList.toggle("pixels", image.naturalWidth <= 64);
  image.src = source;
}

// Drawing

const pad = byId("pad");
const pen = byId("pen");
const context = pad.getContext("2d");
let strokes = []; // each with its width and its points

function drawStroke({ width, points }) {
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = "black";
  context.beginPath();
  context.moveTo(...points[0]);
  for (const point of points) context.lineTo(...point); // the first again, for a dot
  context.stroke();
}

function redraw() {
  context.fillStyle = "white";
  context.fillRect(0, 0, pad.width, pad.height);
  strokes.forEach(drawStroke);
  byId("undo").disabled = byId("clear").disabled = strokes.length === 0;
}

function position(event) {
  const box = pad.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width;
  const y = (event.clientY - box.top) / box.height;
  return [x * pad.width, y * pad.height];
}

function classifyDrawing() {
  if (strokes.length === 0) {
    showEmpty();
    return;
  }
  pad.toBlob(classify, "image/png");
}

function changeStrokes(changed) {
  strokes = changed;
  redraw();
  classifyDrawing();
}

pad.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !event.isPrimary) return;
  pad.setPointerCapture(event.pointerId);
  strokes.push({ width: Number(pen.value), points: [position(event)] });
  redraw();
});

pad.addEventListener("pointermove", (event) => {
  if (!pad.hasPointerCapture(event.pointerId)) return;
  strokes.at(-1).points.push(position(event));
  redraw();
});

pad.addEventListener("lostpointercapture", classifyDrawing); // the stroke has ended

byId("undo").addEventListener("click", () => changeStrokes(strokes.slice(0, -1)));
byId("clear").addEventListener("click", () => changeStrokes([]));

// Files, dropped, pasted or chosen

const preview = byId("preview");
const modes = document.querySelector(".modes");

function showMode(mode) {
  modes.elements.mode.value = mode;
  byId("draw").hidden = mode !== "draw";
  byId("file").hidden = mode !== "file";
}

function classifyFile(file) {
  if (!file) return;
  showMode("file");
  URL.revokeObjectURL(preview.src);
  preview.hidden = false;
  preview.src = URL.createObjectURL(file);
  classify(file).then(() => byId("answer").scrollIntoView({ block: "nearest" }));
}

preview.addEventListener("error", () => (preview.hidden = true)); // a format of the server's alone

modes.addEventListener("change", () => showMode(modes.elements.mode.value));

for (const id of ["choose", "capture"]) {
  byId(id).addEventListener("change", (event) => {
    classifyFile(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
}

document.addEventListener("paste", (event) => classifyFile(event.clipboardData.files[0]));

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});

document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dragging");
});

document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  classifyFile(event.dataTransfer.files[0]);
});

// The camera

const camera = byId("camera");
const video = camera.querySelector("video");

async function openCamera() {
  // Browsers give a live picture to pages of this machine or over HTTPS. Elsewhere a phone opens
  // its own camera.
  if (!navigator.mediaDevices) {
    byId("capture").click();
    return;
  }
  try {
    const constraints = { video: { facingMode: "environment" } };
    video.srcObject = await navigator.mediaDevices.getUserMedia(constraints);
  } catch {
    showError("There is no camera, or this page may not use it.");
    return;
  }
  byId("shoot").disabled = true;
  camera.showModal();
  await video.play();
  byId("shoot").disabled = false;
}

function takePhoto() {
  const photo = document.createElement("canvas");
  photo.width = video.videoWidth;
  photo.height = video.videoHeight;
  photo.getContext("2d").drawImage(video, 0, 0);
  photo.toBlob(classifyFile, "image/jpeg", 0.95);
  camera.close();
}

byId("take").addEventListener("click", openCamera);
byId("shoot").addEventListener("click", takePhoto);
byId("cancel").addEventListener("click", () => camera.close());

camera.addEventListener("close", () => {
  video.srcObject.getTracks().forEach((track) => track.stop());
});

redraw();
showMode(modes.elements.mode.value);
