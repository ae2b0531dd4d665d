// Made by `python -m service.pages.operations_script` from the OpenAPI document; do not edit.
import { call, send } from "./http.js";

/** Read a text: what fires where, each feature described once.
 * @param {{body: ReadRequest, signal?: AbortSignal}} options
 * @returns {Promise<ReadResponse>} */
export const inferenceRead = (options = {}) => call("POST", `/api/v1/inference/read`, options);

/** Add features to a list.
 * @param {string|number} list
 * @param {{body: NewEntries, signal?: AbortSignal}} options
 * @returns {Promise<EntriesChanged>} */
export const listsAddEntries = (list, options = {}) => call("POST", `/api/v1/lists/${encodeURIComponent(list)}/entries`, options);

/** Rename or describe a list.
 * @param {string|number} list
 * @param {{body: ListChange, signal?: AbortSignal}} options
 * @returns {Promise<ListSummary>} */
export const listsChange = (list, options = {}) => call("PATCH", `/api/v1/lists/${encodeURIComponent(list)}`, options);

/** Begin a list.
 * @param {{body: NewList, signal?: AbortSignal}} options
 * @returns {Promise<ListSummary>} */
export const listsMake = (options = {}) => call("POST", `/api/v1/lists`, options);

/** Move entries of a list.
 * @param {string|number} list
 * @param {{body: Move, signal?: AbortSignal}} options
 * @returns {Promise<EntriesChanged>} */
export const listsMoveEntries = (list, options = {}) => call("POST", `/api/v1/lists/${encodeURIComponent(list)}/entries/move`, options);

/** Delete a list.
 * @param {string|number} list
 * @returns {Promise<null>} */
export const listsRemove = (list, options = {}) => call("DELETE", `/api/v1/lists/${encodeURIComponent(list)}`, options);

/** Take features out of a list.
 * @param {string|number} list
 * @param {{body: Removal, signal?: AbortSignal}} options
 * @returns {Promise<EntriesChanged>} */
export const listsRemoveEntries = (list, options = {}) => call("POST", `/api/v1/lists/${encodeURIComponent(list)}/entries/remove`, options);

/** Show a list.
 * @param {string|number} list
 * @param {{query?: {limit?: any, cursor?: any}, body?: undefined, signal?: AbortSignal}} options
 * @returns {Promise<ListDetail>} */
export const listsShow = (list, options = {}) => call("GET", `/api/v1/lists/${encodeURIComponent(list)}`, options);
