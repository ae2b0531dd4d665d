// Made by `python -m service.pages.operations_script` from the OpenAPI document; do not edit.
import { call, send } from "./http.js";
