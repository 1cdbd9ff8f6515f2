/** What W&B's own client asks its server in GraphQL. Source: wandb, core/api/graphql (upsert_bucket, create_run_files). */

/** Makes a run, or finds the one of the name. */
export const UPSERT_BUCKET = `mutation UpsertBucket(
  $name: String, $project: String, $entity: String, $groupName: String, $displayName: String, $config: JSONString, $tags: [String!]
) {
  upsertBucket(input: {
    name: $name, modelName: $project, entityName: $entity, groupName: $groupName,
    displayName: $displayName, config: $config, tags: $tags
  }) {
    bucket { id name displayName project { name entity { name } } }
    inserted
  }
}`;

/** Gives addresses to which files of a run are sent. */
export const CREATE_RUN_FILES = `mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) {
  createRunFiles(input: { entityName: $entity, projectName: $project, runName: $run, files: $files }) {
    runID
    uploadHeaders
    files { name uploadUrl }
  }
}`;
