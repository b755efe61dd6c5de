// The parts of Observable Plot that the page draws with.
export {
  axisX,
  axisY,
  dot,
  frame,
  gridX,
  gridY,
  legend,
  line,
  link,
  plot,
  pointer,
  raster,
  rect,
  ruleX,
  text,
  tip,
} from "@observablehq/plot";
