// Made by `python -m service.pages.operations_script` from the OpenAPI document; do not edit.
import { call, send } from "./http.js";

/** Explain a feature.
 * @param {string|number} sae
 * @param {string|number} index
 * @param {{body: object, signal?: AbortSignal}} options
 * @returns {Promise<object>} */
export const explanationsExplain = (sae, index, options = {}) => call("POST", `/api/v1/saes/${encodeURIComponent(sae)}/features/${encodeURIComponent(index)}/explanations`, options);

/** Delete an explanation.
 * @param {string|number} explanation
 * @returns {Promise<null>} */
export const explanationsRemove = (explanation, options = {}) => call("DELETE", `/api/v1/explanations/${encodeURIComponent(explanation)}`, options);

/** Score a feature's explanation.
 * @param {string|number} sae
 * @param {string|number} index
 * @param {{body: ScoreNow, signal?: AbortSignal}} options
 * @returns {Promise<RunFamily>} */
export const explanationsScore = (sae, index, options = {}) => call("POST", `/api/v1/saes/${encodeURIComponent(sae)}/features/${encodeURIComponent(index)}/scores`, options);

/** Vote on an explanation.
 * @param {string|number} explanation
 * @param {{body: VoteBody, signal?: AbortSignal}} options
 * @returns {Promise<Votes>} */
export const explanationsVote = (explanation, options = {}) => call("PUT", `/api/v1/explanations/${encodeURIComponent(explanation)}/vote`, options);

/** Get numbers of all features.
 * @param {string|number} sae
 * @param {{query?: {column?: any, scorer?: any, min_density?: any, max_density?: any, has_explanation?: any, q?: any, tag?: any, head?: any, family?: any, latent_class?: any, genuine?: any}, body?: undefined, signal?: AbortSignal}} options
 * @returns {Promise<Response>} */
export const featuresColumns = (sae, options = {}) => send("GET", `/api/v1/saes/${encodeURIComponent(sae)}/columns`, options);

/** Show a feature.
 * @param {string|number} sae
 * @param {string|number} index
 * @param {{query?: {context?: any}, body?: undefined, signal?: AbortSignal}} options
 * @returns {Promise<FeaturePage>} */
export const featuresShow = (sae, index, options = {}) => call("GET", `/api/v1/saes/${encodeURIComponent(sae)}/features/${encodeURIComponent(index)}`, options);

/** Top features of every token of a text.
 * @param {{body: ActivationsRequest, signal?: AbortSignal}} options
 * @returns {Promise<ActivationsResponse>} */
export const inferenceActivations = (options = {}) => call("POST", `/api/v1/inference/activations`, options);

/** Where attention-output features read from.
 * @param {{body: AttentionRequest, signal?: AbortSignal}} options
 * @returns {Promise<AttentionResponse>} */
export const inferenceAttention = (options = {}) => call("POST", `/api/v1/inference/attention`, options);

/** Features that tell one set of texts from another.
 * @param {{body: ContrastRequest, signal?: AbortSignal}} options
 * @returns {Promise<ContrastResponse>} */
export const inferenceContrast = (options = {}) => call("POST", `/api/v1/inference/contrast`, options);

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

/** List lists.
 * @param {{query?: {owner?: any, sae?: any, limit?: any, cursor?: any, feature?: any}, body?: undefined, signal?: AbortSignal}} options
 * @returns {Promise<Page_ListSummary_>} */
export const listsListAll = (options = {}) => call("GET", `/api/v1/lists`, options);

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

/** List queues.
 * @returns {Promise<Queues>} */
export const queuesListAll = (options = {}) => call("GET", `/api/v1/queues`, options);

/** List runs.
 * @param {{query?: {state?: any, kind?: any, parent?: any, limit?: any, cursor?: any}, body?: undefined, signal?: AbortSignal}} options
 * @returns {Promise<Page_RunSummary_>} */
export const runsListAll = (options = {}) => call("GET", `/api/v1/runs`, options);

/** Read a run spec without submitting it.
 * @param {{body: SpecDraft, signal?: AbortSignal}} options
 * @returns {Promise<SpecReading>} */
export const runsParse = (options = {}) => call("POST", `/api/v1/runs/parse`, options);

/** Show a kind of run.
 * @param {string|number} kind
 * @returns {Promise<KindDetail>} */
export const runsShowKind = (kind, options = {}) => call("GET", `/api/v1/runs/kinds/${encodeURIComponent(kind)}`, options);

/** Show a run.
 * @param {string|number} run_id
 * @returns {Promise<RunFamily>} */
export const runsShowRun = (run_id, options = {}) => call("GET", `/api/v1/runs/${encodeURIComponent(run_id)}`, options);

/** See how a training goes.
 * @param {string|number} run_id
 * @param {{query?: {place?: any, points?: any, after?: any}, body?: undefined, signal?: AbortSignal}} options
 * @returns {Promise<TrainingReadings>} */
export const runsShowTraining = (run_id, options = {}) => call("GET", `/api/v1/runs/${encodeURIComponent(run_id)}/training`, options);

/** See what a run waits for.
 * @param {string|number} run_id
 * @returns {Promise<RunWaiting>} */
export const runsShowWaiting = (run_id, options = {}) => call("GET", `/api/v1/runs/${encodeURIComponent(run_id)}/waiting`, options);

/** Submit a run.
 * @param {{query?: {priority?: any}, body?: RunSpec, signal?: AbortSignal}} options
 * @returns {Promise<RunFamily>} */
export const runsSubmit = (options = {}) => call("POST", `/api/v1/runs`, options);

/** Answer a text of a sitting.
 * @param {string|number} sitting
 * @param {string|number} number
 * @param {{body: SittingAnswer, signal?: AbortSignal}} options
 * @returns {Promise<SittingProgress>} */
export const sittingsAnswer = (sitting, number, options = {}) => call("PUT", `/api/v1/sittings/${encodeURIComponent(sitting)}/answers/${encodeURIComponent(number)}`, options);

/** Take the detection test yourself.
 * @param {string|number} explanation
 * @param {{body: NewSitting, signal?: AbortSignal}} options
 * @returns {Promise<SittingView>} */
export const sittingsBegin = (explanation, options = {}) => call("POST", `/api/v1/explanations/${encodeURIComponent(explanation)}/sittings`, options);

/** End a sitting.
 * @param {string|number} sitting
 * @returns {Promise<ScoreView>} */
export const sittingsEnd = (sitting, options = {}) => call("POST", `/api/v1/sittings/${encodeURIComponent(sitting)}/score`, options);

/** Show a sitting.
 * @param {string|number} sitting
 * @returns {Promise<SittingView>} */
export const sittingsShow = (sitting, options = {}) => call("GET", `/api/v1/sittings/${encodeURIComponent(sitting)}`, options);

/** Take an answer of a sitting back.
 * @param {string|number} sitting
 * @param {string|number} number
 * @returns {Promise<SittingProgress>} */
export const sittingsTakeBack = (sitting, number, options = {}) => call("DELETE", `/api/v1/sittings/${encodeURIComponent(sitting)}/answers/${encodeURIComponent(number)}`, options);

/** Examine the deployment.
 * @returns {Promise<Findings>} */
export const systemFindings = (options = {}) => call("GET", `/api/v1/system/findings`, options);

/** Tag a feature.
 * @param {string|number} sae
 * @param {string|number} index
 * @param {{body: NewTags, signal?: AbortSignal}} options
 * @returns {Promise<TagsOfFeature>} */
export const tagsAdd = (sae, index, options = {}) => call("POST", `/api/v1/saes/${encodeURIComponent(sae)}/features/${encodeURIComponent(index)}/tags`, options);

/** List tags.
 * @param {{query?: {sae?: any, prefix?: any, limit?: any, cursor?: any}, body?: undefined, signal?: AbortSignal}} options
 * @returns {Promise<Page_TagCount_>} */
export const tagsListAll = (options = {}) => call("GET", `/api/v1/tags`, options);

/** Take a tag from a feature.
 * @param {string|number} sae
 * @param {string|number} index
 * @param {string|number} tag
 * @returns {Promise<null>} */
export const tagsRemove = (sae, index, tag, options = {}) => call("DELETE", `/api/v1/saes/${encodeURIComponent(sae)}/features/${encodeURIComponent(index)}/tags/${encodeURIComponent(tag)}`, options);

/** Delete an upload.
 * @param {string|number} upload
 * @returns {Promise<null>} */
export const uploadsDelete = (upload, options = {}) => call("DELETE", `/api/v1/saes/uploads/${encodeURIComponent(upload)}`, options);
