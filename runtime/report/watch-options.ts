/** Options of `qlora watch`. */
import { defineOptions, option } from "../../core/options/options.ts";

export const watchOptions = defineOptions({
  port: option("0 <= number.integer <= 65535", { default: 6007, help: "port on 127.0.0.1; 0 takes any that is free" }),
});
