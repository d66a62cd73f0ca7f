// What the user draws on the frame. `element`, `props`, `trigger` and `watch` come from gr.HTML.
// A gesture goes to Python as a list of points, as shares of the width and height of the picture.
let points = null;

function place(event) {
  const area = element.querySelector("img").getBoundingClientRect();
  const share = (value, start, length) => Math.min(Math.max((value - start) / length, 0), 1);
  return [share(event.clientX, area.left, area.width), share(event.clientY, area.top, area.height)];
}

function draw() {
  const canvas = element.querySelector("canvas");
  const area = element.querySelector("img").getBoundingClientRect();
  [canvas.width, canvas.height] = [area.width, area.height];   // also erases it
  if (!points) return;
  const pen = canvas.getContext("2d");
  const at = ([x, y]) => [x * area.width, y * area.height];
  const [first, last] = [at(points[0]), at(points[points.length - 1])];
  pen.strokeStyle = pen.fillStyle = props.tool === "eraser" ? "#0008" : "#fffc";
  if (props.tool === "box") {
    pen.lineWidth = 2;
    pen.setLineDash([6, 4]);
    pen.strokeRect(...first, last[0] - first[0], last[1] - first[1]);
  } else if (props.tool === "brush" || props.tool === "eraser") {
    pen.lineWidth = 2 * props.radius * Math.min(area.width, area.height);
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(...first);
    points.forEach((point) => pen.lineTo(...at(point)));
    pen.lineTo(...last);
    pen.stroke();
  }
}

element.addEventListener("pointerdown", (event) => {
  if (event.target.tagName !== "CANVAS" || event.button !== 0) return;
  event.target.setPointerCapture(event.pointerId);
  points = [place(event)];
  draw();
});

element.addEventListener("pointermove", (event) => {
  if (!points) return;
  points.push(place(event));
  draw();
});

element.addEventListener("pointercancel", () => {
  points = null;
  draw();
});

element.addEventListener("pointerup", (event) => {
  if (!points) return;
  points.push(place(event));
  props.value = { points };
  points = null;
  draw();
  trigger("submit");
});
