"use strict";

const settings = JSON.parse(document.getElementById("settings").textContent);
const [height, width, channels] = settings.shape;
const LARGEST = 1024; // pixels of a side, to which larger photos are reduced first
const canvas = document.getElementById("drawing");
const seen = document.getElementById("seen");
const message = document.getElementById("message");
const isGray = channels === 1;
const paper = settings.ground === "light" ? "#fff" : "#000";
const ink = settings.ground === "light" ? "#000" : "#fff";

async function unpacked(id) {
  const text = document.getElementById(id).textContent.trim();
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

async function load() {
  const code = new Blob([await unpacked("runtime")], { type: "text/javascript" });
  const ort = await import(URL.createObjectURL(code));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await unpacked("wasm");
  const session = await ort.InferenceSession.create(new Uint8Array(await unpacked("model")));
  return { ort, session };
}

const loading = load();

// A canvas of this size with part of a picture on it; what is transparent becomes white.
function resized(picture, left, top, partWidth, partHeight, newWidth, newHeight) {
  const result = new OffscreenCanvas(newWidth, newHeight);
  const context = result.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, newWidth, newHeight);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, left, top, partWidth, partHeight, 0, 0, newWidth, newHeight);
  return result;
}

function pixelsOf(picture) {
  const context = picture.getContext("2d", { willReadFrequently: true });
  return context.getImageData(0, 0, picture.width, picture.height).data;
}

// Gray values as Pillow computes them, one byte a pixel.
function gray(rgba) {
  const values = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < values.length; i++) {
    values[i] = 0.299 * rgba[4 * i] + 0.587 * rgba[4 * i + 1] + 0.114 * rgba[4 * i + 2] + 0.5;
  }
  return values;
}

// The median value of the outermost pixels.
function border(values, columns, rows) {
  const edge = [];
  for (let i = 0; i < values.length; i++) {
    const x = i % columns;
    const y = (i - x) / columns;
    if (x === 0 || y === 0 || x === columns - 1 || y === rows - 1) edge.push(values[i]);
  }
  return edge.sort((a, b) => a - b)[edge.length >> 1];
}

// As MNIST was made: the digit fits a box, and its centre of mass is in the middle.
function asDigit(picture) {
  const values = gray(pixelsOf(picture));
  const ground = border(values, picture.width, picture.height);
  const sign = ground > 127 ? -1 : 1;
  const strokes = Float32Array.from(values, (value) => Math.max(sign * (value - ground), 0));
  const strongest = strokes.reduce((a, b) => Math.max(a, b), 0);
  const result = new Uint8Array(width * height);
  if (strongest === 0) return result;
  let [left, top, right, bottom] = [picture.width, picture.height, 0, 0];
  const bright = new ImageData(picture.width, picture.height);
  for (let i = 0; i < strokes.length; i++) {
    const x = i % picture.width;
    const y = (i - x) / picture.width;
    const share = strokes[i] / strongest;
    bright.data.set([255 * share, 255 * share, 255 * share, 255], 4 * i);
    if (share > 0.5) {
      [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
    }
  }
  const whole = new OffscreenCanvas(picture.width, picture.height);
  whole.getContext("2d").putImageData(bright, 0, 0);
  const scale = settings.box / Math.max(right - left, bottom - top);
  const newWidth = Math.max(Math.round((right - left) * scale), 1);
  const newHeight = Math.max(Math.round((bottom - top) * scale), 1);
  const digit = resized(whole, left, top, right - left, bottom - top, newWidth, newHeight);
  const small = gray(pixelsOf(digit));
  let [mass, massX, massY] = [0, 0, 0];
  small.forEach((value, i) => {
    mass += value;
    massX += value * (i % newWidth);
    massY += value * Math.floor(i / newWidth);
  });
  const startX = Math.min(Math.max(Math.round(width / 2 - massX / mass), 0), width - newWidth);
  const startY = Math.min(Math.max(Math.round(height / 2 - massY / mass), 0), height - newHeight);
  small.forEach((value, i) => {
    const x = startX + (i % newWidth);
    result[(startY + Math.floor(i / newWidth)) * width + x] = value;
  });
  return result;
}

// The picture in the middle of a square of the colour of its border.
function padded(picture) {
  const side = Math.max(picture.width, picture.height);
  const result = new OffscreenCanvas(side, side);
  const context = result.getContext("2d", { willReadFrequently: true });
  const rgba = pixelsOf(picture);
  const [red, green, blue] = [0, 1, 2].map((channel) => {
    const values = rgba.filter((_, i) => i % 4 === channel);
    return border(values, picture.width, picture.height);
  });
  context.fillStyle = `rgb(${red} ${green} ${blue})`;
  context.fillRect(0, 0, side, side);
  context.drawImage(picture, (side - picture.width) / 2, (side - picture.height) / 2);
  return result;
}

// The picture in the model's size: cut to its proportions around the middle, padded or stretched.
function fitted(picture) {
  if (settings.fit === "pad") picture = padded(picture);
  let [partWidth, partHeight] = [picture.width, picture.height];
  if (settings.fit !== "stretch") {
    partWidth = Math.min(picture.width, (picture.height * width) / height);
    partHeight = Math.min(picture.height, (picture.width * height) / width);
  }
  const left = (picture.width - partWidth) / 2;
  const top = (picture.height - partHeight) / 2;
  const rgba = pixelsOf(resized(picture, left, top, partWidth, partHeight, width, height));
  if (!isGray) return rgba.filter((_, i) => i % 4 !== 3);
  const values = gray(rgba);
  if (!settings.ground) return values;
  const isLight = border(values, width, height) > 127;
  return isLight === (settings.ground === "dark") ? values.map((value) => 255 - value) : values;
}

function show(pixels) {
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const color = isGray ? Array(3).fill(pixels[i]) : pixels.subarray(3 * i, 3 * i + 3);
    image.data.set([...color, 255], 4 * i);
  }
  seen.getContext("2d").putImageData(image, 0, 0);
}

async function classify(picture) {
  const isModelSize = picture.width === width && picture.height === height;
  const isDigit = settings.digits && !isModelSize;
  const pixels = new Uint8Array(isDigit ? asDigit(picture) : fitted(picture));
  show(pixels);
  const { ort, session } = await loading;
  const images = new ort.Tensor("uint8", pixels, [1, height, width, channels]);
  const { logits } = await session.run({ images });
  const scores = Array.from(logits.data, (logit) => logit / settings.temperature);
  const largest = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  const ranked = powers.map((power, i) => [power / total, settings.classes[i]]);
  ranked.sort((a, b) => b[0] - a[0]);
  const rows = ranked.slice(0, 5).map(([share, name]) => {
    const row = document.createElement("li");
    row.style.setProperty("--share", `${100 * share}%`);
    row.append(Object.assign(document.createElement("span"), { textContent: name }));
    row.append(Object.assign(document.createElement("b"), { textContent: `${percent(share)} %` }));
    return row;
  });
  document.getElementById("classes").replaceChildren(...rows);
  message.textContent = "";
}

function percent(share) {  // says 100 only if the share is 1
  return (share < 1 ? Math.min(100 * share, 99.9) : 100).toFixed(1);
}

async function read(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
    const newWidth = Math.max(Math.round(bitmap.width * scale), 1);
    const newHeight = Math.max(Math.round(bitmap.height * scale), 1);
    await classify(resized(bitmap, 0, 0, bitmap.width, bitmap.height, newWidth, newHeight));
  } catch {
    message.textContent = `${file.name || "This"} cannot be read as an image.`;
  }
}

function clear() {
  const context = canvas.getContext("2d");
  context.fillStyle = paper;
  context.fillRect(0, 0, canvas.width, canvas.height);
}

function prepareDrawing() {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  clear();
  const position = (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = position(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (last === null) return;
    const next = position(event);
    Object.assign(context, { strokeStyle: ink, lineWidth: canvas.width / 12, lineCap: "round" });
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...next);
    context.stroke();
    last = next;
  });
  canvas.addEventListener("pointerup", () => {
    last = null;
    classify(canvas);
  });
  document.getElementById("clear").addEventListener("click", clear);
}

document.getElementById("file").addEventListener("change", (event) => read(event.target.files[0]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) read(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) read(event.clipboardData.files[0]);
});
[seen.width, seen.height] = [width, height];
if (isGray) prepareDrawing();
loading.then(
  () => { document.body.dataset.ready = "true"; message.textContent = ""; },
  (error) => { message.textContent = `This browser cannot run the model: ${error.message}`; },
);
